//! TLS on one link, without a buffer of its own: bytes are decrypted where they were read, and only an incomplete
//! record is kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};

use super::held::{Full, Held};

/// One link's TLS.
pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// An incomplete record.
    partial: Held,
    /// Whether the handshake is done.
    opened: bool,
    /// Whether the peer has said that it ends; it may still be answered.
    peer_left: bool,
    /// Whether this side has; nothing more is encrypted.
    parted: bool,
    /// Whether the connection has failed: it must not be asked for anything then, it might panic.
    failed: bool,
}

/// What bytes did to a link's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes may come.
    On,
    /// The handshake is done; from now on there are plain bytes.
    Opened,
    /// There will be no agreement.
    NoAgreement,
    /// What came can't be what the peer encrypted.
    Broken,
    /// No memory for an incomplete record.
    Full,
}

/// There is nothing more to be had from a connection.
struct Failed;

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Tls, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Tls { connection, partial: Held::default(), opened: false, peer_left: false, parted: false, failed: false })
    }

    /// Takes bytes as they were read, and destroys them. What they say is added to `plain`, what must be answered to
    /// `out`.
    pub(super) fn open(
        &mut self,
        wire: &mut [u8],
        held_max: usize,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Progress {
        let opened_before = self.opened;
        let mut partial = self.partial.take();
        let result = if partial.bytes().is_empty() {
            let (used, result) = self.work(wire, plain, out);
            partial.extend(&wire[used..], held_max).map(|()| result)
        } else {
            partial.extend(wire, held_max).map(|()| {
                let (used, result) = self.work(partial.bytes_mut(), plain, out);
                partial.discard(used);
                result
            })
        };
        self.partial = partial;
        match result {
            Err(Full) => Progress::Full,
            Ok(Err(_)) if opened_before => Progress::Broken,
            Ok(Err(_)) => Progress::NoAgreement,
            Ok(Ok(())) if self.opened && !opened_before => Progress::Opened,
            Ok(Ok(())) => Progress::On,
        }
    }

    /// Whether the peer has taken its leave.
    pub(super) fn peer_left(&self) -> bool {
        self.peer_left
    }

    /// Goes through records; tells how many bytes are of no more use.
    fn work(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Result<(), Failed>) {
        if self.failed {
            return (incoming.len(), Err(Failed));
        }
        // Other people's code, fed by strangers, on a thread that carries thousands of links.
        let worked = catch_unwind(AssertUnwindSafe(|| self.work_through(incoming, plain, out)));
        let (used, result) = worked.unwrap_or((0, Err(Failed)));
        self.failed |= result.is_err();
        if self.failed { (incoming.len(), result) } else { (used, result) }
    }

    fn work_through(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<(), Failed>) {
        let mut used = 0;
        let mut result = Ok(());
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut incoming[used..]);
            let over = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(out, 0, |room| match data.encode(room) {
                        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                            Err(required_size)
                        }
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                        Ok(written) => Ok(written),
                    });
                    // After a failure this was the alert, and what caused it must not be looked at again.
                    result.is_err()
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::ReadTraffic(mut data)) => {
                    while let Some(Ok(record)) = data.next_record() {
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    false
                }
                Ok(ConnectionState::WriteTraffic(_)) => true,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.peer_left = true;
                    true
                }
                // There is no early data here; a state that a later version may add means that it waits for something.
                Ok(_) => true,
                // Once more, for the alert that tells the peer.
                Err(_) => std::mem::replace(&mut result, Err(Failed)).is_err(),
            };
            used += discard;
            if over {
                self.opened |= !self.connection.is_handshaking();
                return (used, result);
            }
        }
    }

    /// Encrypts; the result is added to `out`. Outside of an open connection there is nobody to say it to.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.write(out, plain.len(), |writer, room| writer.encrypt(plain, room));
    }

    /// Takes leave of the peer.
    pub(super) fn part(&mut self, out: &mut Vec<u8>) {
        self.write(out, 0, |writer, room| writer.queue_close_notify(room));
        self.parted = true;
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        expected: usize,
        mut write: impl FnMut(&mut Writer<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) {
        if !self.opened || self.parted || self.failed {
            return;
        }
        let wrote = catch_unwind(AssertUnwindSafe(|| {
            // It must see the same bytes as before, or it loses its place in them.
            let status = self.connection.process_tls_records(self.partial.bytes_mut());
            let Ok(ConnectionState::WriteTraffic(mut writer)) = status.state else { return false };
            append(out, expected + expected / 64 + RECORD_OVERHEAD, |room| match write(&mut writer, room) {
                Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
                // The keys are worn out after 2⁶⁴ records; the peer will notice the silence.
                Err(EncryptError::EncryptExhausted) => Ok(0),
                Ok(written) => Ok(written),
            });
            true
        }));
        self.failed |= !wrote.unwrap_or(false);
    }
}

type Writer<'a> = rustls::unbuffered::WriteTraffic<'a, ServerConnectionData>;

/// What a record needs beside what it says, generously.
const RECORD_OVERHEAD: usize = 64;

/// Adds what `write` writes, giving it as much room as it asks for.
fn append(out: &mut Vec<u8>, expected: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = out.len();
    let mut room = expected;
    // The second time it has what it asked for.
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            Err(needed) => room = needed,
        }
    }
    out.truncate(start);
}
