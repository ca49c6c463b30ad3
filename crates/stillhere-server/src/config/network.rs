//! A range of addresses, as `[listen] proxy` has them.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::ParseIntError;
use std::str::FromStr;

/// An address and how many of its bits count: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no [`Network`]; the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It doesn't begin with an address.
    #[error("a network is an address and a number of bits, such as \"10.0.0.0/8\" or \"::1\"")]
    Address(#[from] AddrParseError),
    /// No number follows the slash.
    #[error("after the slash stands how many bits count, such as \"10.0.0.0/8\"")]
    Bits(#[from] ParseIntError),
    /// More bits than the address has.
    #[error("an address of this kind has {0} bits")]
    TooManyBits(u8),
    /// Bits are set that don't count, so it is unclear what is meant.
    #[error("bits are set beyond the number that counts; write {0}")]
    Beyond(Network),
}

impl Network {
    /// Whether an address is one of these. IPv4 addresses mapped into IPv6 count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Network, ParseNetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>()?, Some(bits.parse::<u8>()?)),
            None => (text.parse()?, None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(ParseNetworkError::TooManyBits(width));
        }
        let network = Network { address: masked(address, bits), bits };
        if network.address == address { Ok(network) } else { Err(ParseNetworkError::Beyond(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The address with all but its first bits at zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_bits() {
        for (network, address, contained) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), contained, "{address} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_says_how_to_write_one() {
        for (text, said) in [
            ("ten", "such as \"10.0.0.0/8\""),
            ("10.0.0.0/", "how many bits"),
            ("10.0.0.0/33", "has 32 bits"),
            ("::/129", "has 128 bits"),
            ("10.1.0.0/8", "write 10.0.0.0/8"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
