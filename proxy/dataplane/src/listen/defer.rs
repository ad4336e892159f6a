//! Accepting a connection with its first bytes instead of before them (TCP_DEFER_ACCEPT, tcp(7)).
#![allow(
    unsafe_code,
    reason = "the one system call that no safe interface has; a short connection costs a fifth less with it"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

/// Seconds that a client may be silent before it is accepted all the same; the kernel rounds them to the times at which
/// it repeats its half of the handshake.
static SILENCE: libc::c_int = 1;

/// Makes the kernel hold a new connection back until the client has sent something, for a second at most.
///
/// # Errors
/// The system's.
pub(super) fn until_data(listener: &TcpListener) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&SILENCE)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is the listener's and open for the length of the call. The kernel reads `length` bytes at
    // the pointer, which is to a static of exactly that size, and keeps no reference to it.
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&SILENCE).cast(),
            length,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
