//! Ethernet frames as bytes.

use std::net::IpAddr;

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// A frame with a TCP segment. Checksums are left out: nothing that sees it looks at them.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) port: u16,
    pub(crate) flags: u8,
    /// VLAN tags by their kinds.
    pub(crate) tags: Vec<u16>,
    /// Bytes of IPv4 options.
    pub(crate) options: u8,
    /// Offset of the fragment in units of 8 bytes.
    pub(crate) fragment: u16,
    /// Kinds of IPv6 extension headers.
    pub(crate) extensions: Vec<u8>,
}

impl Frame {
    pub(crate) fn syn(source: &str, destination: &str, port: u16) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            port,
            flags: SYN,
            tags: Vec::new(),
            options: 0,
            fragment: 0,
            extensions: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 7]);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([0x08, 0x00]);
                let words = 5 + self.options / 4;
                let length = u16::from(words) * 4 + 20;
                bytes.extend([0x40 | words, 0]);
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 1]);
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([64, 6, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.resize(bytes.len() + usize::from(self.options), 1);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 60]);
                let mut next = self.extensions.iter().copied().chain([6]);
                bytes.extend([next.next().unwrap(), 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                for (kind, next) in self.extensions.iter().zip(next) {
                    self.extension(*kind, next, &mut bytes);
                }
            }
            _ => panic!("two families"),
        }
        bytes.extend(40_000_u16.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes
    }

    fn extension(&self, kind: u8, next: u8, bytes: &mut Vec<u8>) {
        match kind {
            // Fragment: the rest is an offset and an identification.
            44 => {
                bytes.extend([next, 0]);
                bytes.extend((self.fragment << 3 | 1).to_be_bytes());
                bytes.extend([0, 0, 0, 9]);
            }
            // Authentication counts words of 4 bytes, less 2.
            51 => {
                bytes.extend([next, 4]);
                bytes.extend([0; 22]);
            }
            // The others count words of 8 bytes, less 1.
            _ => {
                bytes.extend([next, 1]);
                bytes.extend([0; 14]);
            }
        }
    }
}
