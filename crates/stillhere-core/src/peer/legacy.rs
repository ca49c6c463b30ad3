//! The tutorial's beat, byte for byte as its Python client writes it: `json.dumps(json.dumps({...}))` behind a length.

use std::io::Write;
use std::net::IpAddr;

use crate::detector::Status;
use crate::wire::frame::write_frame;

/// Appends a beat. None of its parts can hold a character that JSON escapes, so the quotes are escaped by hand.
pub(super) fn write_beat(out: &mut Vec<u8>, ip: IpAddr, status: Status, pid: u32) {
    write_frame(out, |out| {
        let status = status.name();
        let written = write!(out, r#""{{\"ip\": \"{ip}\", \"status\": \"{status}\", \"pid\": {pid}}}""#);
        debug_assert!(written.is_ok(), "writing into memory can't fail");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_what_the_tutorials_python_writes() {
        let mut out = Vec::new();
        write_beat(&mut out, IpAddr::from([127, 0, 0, 1]), Status::Alive, 21243);
        let body = br#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
        assert_eq!(out[..4], [0, 0, 0, 0x40]);
        assert_eq!(&out[4..], body);
        let inner: String = serde_json::from_slice(body).unwrap();
        assert_eq!(inner, r#"{"ip": "127.0.0.1", "status": "alive", "pid": 21243}"#);
    }
}
