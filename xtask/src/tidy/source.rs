//! Rust source as the rules need it: without what only looks like code.

/// The text with comments and the insides of string and character literals blanked out; lines and columns stay where they are.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest[0] {
            b'/' if rest.starts_with(b"//") => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => at + block_comment(rest),
            b'"' => at + string(rest),
            b'r' if !continues_a_word(bytes, at) && raw_string(rest).is_some() => at + raw_string(rest).unwrap_or(1),
            b'\'' => match character(rest) {
                Some(length) => at + length,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Every byte of a blanked character was replaced by a space, so the text is UTF-8 as before.
    String::from_utf8(out).unwrap_or_default()
}

/// Whether the byte before belongs to the same word; `br"…"` counts as the start of a raw string all the same.
fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => at >= 2 && is_word(bytes[at - 2]),
        Some(byte) => is_word(byte),
        None => false,
    }
}

/// The length of a block comment, which may contain others.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a string literal with its quotes.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"` or `r#"…"#`, or `None` when this is no raw string.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let start = 2 + hashes;
    let length = rest[start..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(rest.len(), |length| start + length + close.len()))
}

/// The length of a character literal, or `None` when the quote starts a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.get(3..)?.iter().position(|byte| *byte == b'\'')?;
        return Some(3 + close + 1);
    }
    // One character of up to four bytes between two quotes.
    let length = match rest.get(1)? {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// The lines, as half-open ranges from 1, of the modules behind `#[cfg(test)]` in blanked text.
pub(crate) fn test_modules(code: &str) -> Vec<std::ops::Range<usize>> {
    let line_of = |at: usize| 1 + code[..at].matches('\n').count();
    let mut ranges = Vec::new();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let body = start + attribute.len();
        let open = code[body..].find(['{', ';']).map(|length| body + length);
        // `mod tests;` has no body here; its file is known by its name.
        let Some(open) = open.filter(|open| code.as_bytes()[*open] == b'{') else { continue };
        let mut depth = 0;
        let close = code[open..].char_indices().find_map(|(length, character)| {
            depth += match character {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            (depth == 0).then_some(open + length)
        });
        ranges.push(line_of(start)..line_of(close.unwrap_or(code.len())) + 1);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_code_is_blanked() {
        let check = |text: &str, expected: &str| assert_eq!(code(text), expected, "{text}");
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"x("a\"b", y)"#, "x(      , y)");
        check(r###"r#"a"b"# + r"c" + br"d""###, "         +      + b    ");
        check("for 'a in ['x', '\\'', 'é']", "for 'a in [   ,     ,     ]");
        check("hammer\"x\"", "hammer   ");
        check("\"unfinished", "           ");
    }

    #[test]
    fn test_modules_end_at_their_closing_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\n";
        let ranges = test_modules(text);
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 2..6));
    }
}
