//! Finding the TCP segment in a frame: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with extension headers.

use aya_ebpf::programs::XdpContext;
use tidegate_ebpf::guard::EXTENSION_HEADERS;

/// What is read of a segment.
pub(super) struct Segment {
    pub(super) source: Address,
    pub(super) destination: Address,
    /// Of the destination, in the order of the network.
    pub(super) port: [u8; 2],
    /// Whether it asks for a connection: SYN without ACK. Also when a fragment ends before the flags: what was cut in such
    /// pieces means no good, and the other ones are not seen here.
    pub(super) begins: bool,
}

/// In the order of the network.
pub(super) enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// A packet's place in a frame is below this: the kernel wants to be sure.
const FARTHEST: usize = 0x7fff;

// IEEE 802 numbers of what a frame holds.
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const ETHERNET_IPV4: u16 = 0x0800;
const ETHERNET_IPV6: u16 = 0x86dd;

// IANA's numbers of protocols and extension headers.
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// `None` for everything else, malformed packets too.
#[inline(always)]
pub(super) fn segment(context: &XdpContext) -> Option<Segment> {
    let mut offset = ETHERNET;
    let mut holds = u16::from_be_bytes(read(context, offset - 2)?);
    for _ in 0..2 {
        if holds == VLAN || holds == SERVICE_VLAN {
            offset += VLAN_TAG;
            holds = u16::from_be_bytes(read(context, offset - 2)?);
        }
    }
    match holds {
        ETHERNET_IPV4 => ipv4(context, offset),
        ETHERNET_IPV6 => ipv6(context, offset),
        _ => None,
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4(context: &XdpContext, offset: usize) -> Option<Segment> {
    let header: [u8; IPV4_HEADER] = read(context, offset)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || length < IPV4_HEADER || fragment != 0 || header[9] != TCP {
        return None;
    }
    let source = Address::V4([header[12], header[13], header[14], header[15]]);
    let destination = Address::V4([header[16], header[17], header[18], header[19]]);
    tcp(context, offset + length, source, destination)
}

/// RFC 8200 sections 3 and 4.
#[inline(always)]
fn ipv6(context: &XdpContext, offset: usize) -> Option<Segment> {
    let header: [u8; 8] = read(context, offset)?;
    let addresses: [u8; 32] = read(context, offset + 8)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, destination) = halves(&addresses);
    let mut next = header[6];
    let mut offset = offset + IPV6_HEADER;
    for _ in 0..EXTENSION_HEADERS {
        if next == TCP {
            break;
        }
        let [following, length, high, low]: [u8; 4] = read(context, offset)?;
        offset += match next {
            FRAGMENT if u16::from_be_bytes([high, low]) >> 3 == 0 => 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                (usize::from(length) + 1) * 8
            }
            _ => return None,
        };
        next = following;
    }
    if next != TCP {
        return None;
    }
    tcp(
        context,
        offset,
        Address::V6(source),
        Address::V6(destination),
    )
}

#[inline(always)]
fn halves(addresses: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    // SAFETY: both are made of bytes, and as long.
    unsafe { core::mem::transmute(*addresses) }
}

/// RFC 9293 section 3.1.
#[inline(always)]
fn tcp(
    context: &XdpContext,
    offset: usize,
    source: Address,
    destination: Address,
) -> Option<Segment> {
    let port = read(context, offset + 2)?;
    let begins = match read(context, offset + 13) {
        Some([flags]) => flags & (SYN | ACK) == SYN,
        None => true,
    };
    Some(Segment {
        source,
        destination,
        port,
        begins,
    })
}

/// Bytes of the frame; `None` when it ends before.
#[inline(always)]
fn read<const LENGTH: usize>(context: &XdpContext, offset: usize) -> Option<[u8; LENGTH]> {
    if offset > FARTHEST {
        return None;
    }
    let start = context.data() + offset;
    if start + LENGTH > context.data_end() {
        return None;
    }
    // SAFETY: the bytes are within the frame, as was just seen.
    Some(unsafe { (start as *const [u8; LENGTH]).read() })
}
