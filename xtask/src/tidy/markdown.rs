//! Rules about the documentation.

use super::{Finding, Tree};

const README: &str = "README.md";
const README_ZH: &str = "README.zh-CN.md";

/// The two READMEs, one beside the other; until one exists there is nothing to compare.
pub(crate) fn readme_in_step(tree: &Tree) -> Vec<Finding> {
    let (Some(english), Some(chinese)) = (tree.files.get(README), tree.files.get(README_ZH)) else {
        let is_alone = tree.files.contains_key(README) != tree.files.contains_key(README_ZH);
        return if is_alone {
            vec![Finding::new(README_ZH, 0, "one README is there without the other")]
        } else {
            Vec::new()
        };
    };
    let (english, chinese) = (Outline::of(english), Outline::of(chinese));
    let mut findings = Vec::new();
    if english.headings != chinese.headings {
        let text = format!("headings of levels {:?}, but {:?} in {README}", chinese.headings, english.headings);
        findings.push(Finding::new(README_ZH, 0, text));
    }
    if english.blocks.len() != chinese.blocks.len() {
        let text = format!("{} code blocks, but {} in {README}", chinese.blocks.len(), english.blocks.len());
        findings.push(Finding::new(README_ZH, 0, text));
    }
    findings
}

/// What has to be the same in every language.
struct Outline {
    /// The level of each heading, in order.
    headings: Vec<usize>,
    /// The language of each fenced block, in order.
    blocks: Vec<String>,
}

impl Outline {
    fn of(text: &str) -> Self {
        let mut outline = Self { headings: Vec::new(), blocks: Vec::new() };
        for line in lines(text) {
            match line {
                Line::Fence(language) => outline.blocks.push(language.to_owned()),
                Line::Text(_, text) => {
                    let level = text.chars().take_while(|character| *character == '#').count();
                    if (1..=6).contains(&level) && text[level..].starts_with(' ') {
                        outline.headings.push(level);
                    }
                }
            }
        }
        outline
    }
}

/// A line that is not inside a fenced block.
enum Line<'a> {
    /// The start of a fenced block, with its language.
    Fence(&'a str),
    /// Any other line, with its number.
    Text(usize, &'a str),
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                lines.push(Line::Fence(start.trim_start_matches(['`', '~']).trim()));
            }
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => lines.push(Line::Text(number, line)),
        }
    }
    lines
}

/// `[text](path)` in every Markdown file, relative to that file.
pub(crate) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_suffix(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for line in lines(text) {
            let Line::Text(number, line) = line else { continue };
            for link in links_in(line) {
                let Some(target) = resolve(folder, link) else { continue };
                let is_there = tree.files.contains_key(&target)
                    || tree.files.keys().any(|file| file.starts_with(&format!("{target}/")))
                    || tree.workspace.root.join(&target).exists();
                if !is_there {
                    findings.push(Finding::new(path, number, format!("{link} is not there")));
                }
            }
        }
    }
    findings
}

/// The targets of inline links and pictures; what stands in backticks is no link.
fn links_in(line: &str) -> Vec<&str> {
    let outside_code = line.split('`').step_by(2);
    let targets = outside_code.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split_once(')')));
    targets.map(|(target, _)| target.split_whitespace().next().unwrap_or("")).collect()
}

/// The path from the root that a link means; `None` for other sites and for places on the same page.
fn resolve(folder: &str, link: &str) -> Option<String> {
    let link = link.trim_matches(['<', '>']).split('#').next()?;
    if link.is_empty() || link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if link.starts_with('/') {
        parts.clear();
    }
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readmes_keep_in_step() {
        let check = |english: &str, chinese: &str, count: usize| {
            let tree = Tree::of(&[(README, english), (README_ZH, chinese)], Vec::new());
            assert_eq!(readme_in_step(&tree).len(), count, "{english:?} {chinese:?}");
        };
        check("# a\n## b\n```sh\n# no heading\n```\n", "# 甲\n## 乙\n```sh\n# 不是标题\n```\n", 0);
        check("# a\n## b\n", "# 甲\n", 1);
        check("# a\n```\nx\n```\n", "# 甲\n", 1);
        check("# a\n#no heading\n", "# 甲\n", 0);
        assert_eq!(readme_in_step(&Tree::of(&[(README, "")], Vec::new())).len(), 1);
    }

    #[test]
    fn a_link_must_lead_to_a_file() {
        let check = |text: &str, lines: &[usize]| {
            let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("LICENSE", "")], Vec::new());
            let found: Vec<usize> = links(&tree).iter().map(|finding| finding.line).collect();
            assert_eq!(found, lines, "{text}");
        };
        check("[b](b.md) [b](./b.md#part) [l](../LICENSE) [d](../docs) [here](#part)", &[]);
        check("\n[c](c.md)", &[2]);
        check("[site](https://example.org/c.md) `[c](c.md)`", &[]);
        check("```\n[c](c.md)\n```\n", &[]);
        check("![picture](c.svg \"title\")", &[1]);
    }
}
