//! The PROXY protocol: what a proxy says of the connection that it passes on, before anything else.
//!
//! It is read before the link begins, on the socket as it was accepted, and not a byte more than it has. Both versions:
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest line of version 1, its end included; the specification's own bound.
const LINE_BYTES_MAX: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// The longest rest of a header of version 2: addresses take 36 bytes, and proxies' additions rarely more than 200.
const REST_BYTES_MAX: usize = 1024;

/// Why a proxy's header can't be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
    #[error("it doesn't begin with a PROXY header")]
    Missing,
    #[error("its PROXY header is malformed or too long")]
    Malformed,
}

/// Reads the header; `None` if the connection is the proxy's own, such as a health check.
pub(super) async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    // No header of either version is shorter than this.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if &start == SIGNATURE {
        return read_version_2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::Missing);
    }
    // One by one, because what follows the line is the client's.
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(ProxyError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line[..line.len() - 2])
}

fn parse_line(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, port, destination_port] => {
            let address = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (family == "TCP4"));
            let (Some(source), Some(_)) = (address(source), address(destination)) else {
                return Err(ProxyError::Malformed);
            };
            match (port.parse::<u16>(), destination_port.parse::<u16>()) {
                (Ok(port), Ok(_)) => Ok(Some(SocketAddr::new(source, port))),
                _ => Err(ProxyError::Malformed),
            }
        }
        _ => Err(ProxyError::Malformed),
    }
}

async fn read_version_2(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; FIXED_BYTES - SIGNATURE.len()];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_BYTES_MAX {
        return Err(ProxyError::Malformed);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_version_2(command, family, &rest)
}

fn parse_version_2(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match (command, family) {
        // LOCAL; whatever follows is to be skipped.
        (0x20, _) => Ok(None),
        // PROXY, TCP over IPv4: two addresses, two ports.
        (0x21, 0x11) => match rest {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                let port = u16::from_be_bytes([*high, *low]);
                Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)))
            }
            _ => Err(ProxyError::Malformed),
        },
        // The same over IPv6.
        (0x21, 0x21) => match (rest.first_chunk::<16>(), rest.get(32..36)) {
            (Some(source), Some(&[high, low, _, _])) => {
                let port = u16::from_be_bytes([high, low]);
                Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
            }
            _ => Err(ProxyError::Malformed),
        },
        // A family that says nothing of an address here: the connection's own is used.
        (0x21, 0x00) => Ok(None),
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_1() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 127.0.0.1 5000 14000", Ok(Some("192.0.2.1:5000"))),
            ("PROXY TCP6 2001:db8::1 ::1 5000 14000", Ok(Some("[2001:db8::1]:5000"))),
            ("PROXY UNKNOWN", Ok(None)),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2", Ok(None)),
            ("PROXY TCP4 2001:db8::1 ::1 5000 14000", Err(())),
            ("PROXY TCP6 192.0.2.1 127.0.0.1 5000 14000", Err(())),
            ("PROXY TCP4 192.0.2.1 127.0.0.1 5000", Err(())),
            ("PROXY TCP4 192.0.2.1 127.0.0.1 5000 14000 more", Err(())),
            ("PROXY TCP4 192.0.2.1  127.0.0.1 5000 14000", Err(())),
            ("PROXY TCP4 192.0.2.1 127.0.0.1 70000 14000", Err(())),
            ("PROXY UDP4 192.0.2.1 127.0.0.1 5000 14000", Err(())),
            ("PROXY ", Err(())),
        ] {
            let expected = expected.map(|address| address.map(|address| address.parse::<SocketAddr>().unwrap()));
            assert_eq!(parse_line(line.as_bytes()).map_err(|_| ()), expected, "{line}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 1, 127, 0, 0, 1, 0x13, 0x88, 0x36, 0xb0];
        let v6: Vec<u8> = (0..36).collect();
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        for (command, family, rest, expected) in [
            (0x21, 0x11, &v4[..], Ok(Some("192.0.2.1:5000"))),
            (0x21, 0x11, &with_more[..], Ok(Some("192.0.2.1:5000"))),
            (0x21, 0x11, &v4[..11], Err(())),
            (0x21, 0x21, &v6[..], Ok(Some("[1:203:405:607:809:a0b:c0d:e0f]:8225"))),
            (0x21, 0x21, &v6[..35], Err(())),
            (0x20, 0x11, &[][..], Ok(None)),
            (0x21, 0x00, &[][..], Ok(None)),
            (0x21, 0x12, &v4[..], Err(())),
            (0x11, 0x11, &v4[..], Err(())),
            (0x2f, 0x11, &v4[..], Err(())),
        ] {
            let expected = expected.map(|address| address.map(|address| address.parse::<SocketAddr>().unwrap()));
            assert_eq!(parse_version_2(command, family, rest).map_err(|_| ()), expected, "{command:x} {family:x}");
        }
    }
}
