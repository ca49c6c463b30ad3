//! As much HTTP/1.1 as the admin API of a daemon on this machine needs: one GET, one answer, close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The API lists 20,000 sessions in one answer; a longer one is an error rather than all our memory.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// An API that is silent for this long has failed.
const WAIT: Duration = Duration::from_secs(10);

/// Fetches `path`; a status other than 200 is an error that carries the answer.
pub(crate) fn get(to: SocketAddr, path: &str, token: Option<&str>) -> Result<String> {
    let answer = exchange(to, path, token).with_context(|| format!("GET http://{to}{path}"))?;
    let (status, body) = parse(&answer).with_context(|| format!("GET http://{to}{path}"))?;
    ensure!(status == 200, "GET http://{to}{path} answered {status}: {}", body.chars().take(300).collect::<String>());
    Ok(body)
}

fn exchange(to: SocketAddr, path: &str, token: Option<&str>) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{authorization}Connection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<(u16, String)> {
    let split =
        answer.windows(4).position(|window| window == b"\r\n\r\n").context("the answer has no end of its head")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
    let body = &answer[split + 4..];
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let body = match (header("transfer-encoding"), header("content-length")) {
        (Some("chunked"), _) => dechunk(body)?,
        (Some(other), _) => bail!("the answer is {other}"),
        (None, Some(length)) => {
            let length: usize = length.parse()?;
            body.get(..length).context("the answer was cut")?.to_vec()
        }
        (None, None) => body.to_vec(),
    };
    Ok((status, String::from_utf8(body).context("the answer is not UTF-8")?))
}

fn dechunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").context("a chunk was cut")?;
        let size = str::from_utf8(&bytes[..end])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk has no size")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = bytes.get(end + 2..end + 2 + size).context("a chunk was cut")?;
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).context("a chunk was cut")?;
    }
}

/// The sum of a metric's samples whose labels contain all of `labels`; `None` when no line of that name exists.
pub(crate) fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if !rest.starts_with(['{', ' ']) {
            continue;
        }
        let matches = labels.iter().all(|label| rest.contains(label));
        let value: f64 = rest.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        *sum.get_or_insert(0.0) += if matches { value } else { 0.0 };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_length_by_chunks_and_to_the_end() {
        let check = |answer: &str| assert_eq!(parse(answer.as_bytes()).unwrap(), (200, "hello".to_owned()), "{answer}");
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n");
        check("HTTP/1.1 200 OK\r\n\r\nhello");
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhe").is_err());
    }

    #[test]
    fn metrics_are_summed_over_the_labels_that_match() {
        let text =
            "# TYPE a_total counter\na_total{to=\"leave\",from=\"alive\"} 3\na_total{to=\"close\"} 4\nab 9\nb 1.5\n";
        assert_eq!(metric(text, "a_total", &[]), Some(7.0));
        assert_eq!(metric(text, "a_total", &["to=\"leave\""]), Some(3.0));
        assert_eq!(metric(text, "a_total", &["to=\"alive\""]), Some(0.0));
        assert_eq!(metric(text, "b", &[]), Some(1.5));
        assert_eq!(metric(text, "c", &[]), None);
    }
}
