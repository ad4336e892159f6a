//! The program's place on an interface: a link of the kernel, pinned or not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{Xdp, XdpMode};

use super::super::failure::Failure;
use super::interfaces::Interface;
use crate::settings::GuardMode;

/// Where on a packet's way the program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceMode {
    Native,
    Generic,
}

/// The program on an interface, for as long as a process has this, or a file is there.
#[derive(Debug)]
pub(super) struct Place {
    mode: PlaceMode,
    link: FdLink,
    pin: Option<PathBuf>,
}

/// Why the program is not on an interface.
#[derive(Debug)]
pub(super) enum NotPlaced {
    /// Another program is, which may be that of the process before.
    Busy,
    Failed(Failure),
}

impl PlaceMode {
    /// Those that the settings allow, the best one first.
    fn allowed(mode: GuardMode) -> &'static [Self] {
        match mode {
            GuardMode::Auto => &[Self::Native, Self::Generic],
            GuardMode::Native => &[Self::Native],
            GuardMode::Generic => &[Self::Generic],
        }
    }

    fn xdp(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }

    /// As in logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The file that the link is pinned as: it says what the link does not. Numbers, because names change and have dots.
    fn pin(self, pins: &Path, interface: &Interface) -> PathBuf {
        pins.join(format!("{PREFIX}{}-{}", self.as_str(), interface.index()))
    }
}

/// What names of pinned places begin with.
const PREFIX: &str = "guard-";

/// Puts the program on the interface: on the pinned link of the process before, or on one of its own.
pub(super) fn put(
    program: &mut Xdp,
    interface: &Interface,
    mode: GuardMode,
    pins: Option<&Path>,
) -> Result<Place, NotPlaced> {
    if let Some(pins) = pins
        && let Some(place) = inherit(program, interface, mode, pins)
    {
        return Ok(place);
    }
    let mut failed = None;
    for &mode in PlaceMode::allowed(mode) {
        match attach(program, interface, mode) {
            Ok(link) => {
                let mut place = Place {
                    mode,
                    link,
                    pin: None,
                };
                if let Some(pins) = pins {
                    place = place.pinned(program, interface, pins)?;
                }
                return Ok(place);
            }
            Err(NotPlaced::Busy) => return Err(NotPlaced::Busy),
            Err(NotPlaced::Failed(failure)) => {
                tracing::debug!(%interface, mode = mode.as_str(), "guard: {failure}");
                failed = Some(failure);
            }
        }
    }
    let nothing = || Failure::new("cannot attach the program", "no mode is allowed");
    Err(NotPlaced::Failed(failed.unwrap_or_else(nothing)))
}

/// Puts the program on the pinned link that the process before has left or shares. Pins that are of no use go.
fn inherit(
    program: &mut Xdp,
    interface: &Interface,
    mode: GuardMode,
    pins: &Path,
) -> Option<Place> {
    let allowed = PlaceMode::allowed(mode);
    for place_mode in [PlaceMode::Native, PlaceMode::Generic] {
        let pin = place_mode.pin(pins, interface);
        let Ok(pinned) = PinnedLink::from_pin(&pin) else {
            continue;
        };
        if allowed.contains(&place_mode) {
            match put_on(program, pinned.into()) {
                Ok(link) => {
                    return Some(Place {
                        mode: place_mode,
                        link,
                        pin: Some(pin),
                    });
                }
                // Its interface may be gone.
                Err(failure) => tracing::debug!(%interface, "guard: {failure}"),
            }
        }
        remove(&pin);
    }
    None
}

/// Puts the program in the place of whatever is on the link.
fn put_on(program: &mut Xdp, link: FdLink) -> Result<FdLink, Failure> {
    let link = XdpLink::try_from(link)
        .map_err(|error| Failure::new("cannot use the pinned link", error))?;
    let id = program.attach_to_link(link)?;
    taken(program, id)
}

fn attach(program: &mut Xdp, interface: &Interface, mode: PlaceMode) -> Result<FdLink, NotPlaced> {
    let attached = program
        .attach_to_if_index(interface.index(), mode.xdp())
        .map_err(|error| Failure::new("cannot attach the program", error));
    match attached {
        Ok(id) => taken(program, id).map_err(NotPlaced::Failed),
        // The latter when the other program stands in another mode.
        Err(failure) => Err(match failure.system_error() {
            Some(libc::EBUSY | libc::EEXIST) => NotPlaced::Busy,
            _ => NotPlaced::Failed(failure),
        }),
    }
}

/// The link as a descriptor. Without links the program would stay when the process is killed.
fn taken(program: &mut Xdp, id: XdpLinkId) -> Result<FdLink, Failure> {
    let link = program.take_link(id)?;
    FdLink::try_from(link).map_err(|_| {
        Failure::new(
            "cannot attach the program",
            "the kernel has no links for XDP, which came with 5.9",
        )
    })
}

impl Place {
    pub(super) fn mode(&self) -> PlaceMode {
        self.mode
    }

    /// The file that its link is pinned as.
    pub(super) fn pin(&self) -> Option<&Path> {
        self.pin.as_deref()
    }

    /// Leaves the interface, unless another process shares the link.
    pub(super) fn remove(self) {
        if let Some(pin) = &self.pin {
            remove(pin);
        }
    }

    /// The same, pinned, or if that cannot be had, for as long as the process lives.
    fn pinned(
        self,
        program: &mut Xdp,
        interface: &Interface,
        pins: &Path,
    ) -> Result<Self, NotPlaced> {
        let Self { mode, link, .. } = self;
        let pin = mode.pin(pins, interface);
        match link.pin(&pin) {
            Ok(pinned) => Ok(Self {
                mode,
                link: pinned.into(),
                pin: Some(pin),
            }),
            Err(error) => {
                let error = Failure::new("cannot pin the guard's place", error);
                tracing::warn!(
                    %interface,
                    "guard: {error}; between this process and the next the interface is not guarded for a moment"
                );
                // The attempt has closed the link.
                let link = attach(program, interface, mode)?;
                Ok(Self {
                    mode,
                    link,
                    pin: None,
                })
            }
        }
    }
}

/// Takes away every guard that is pinned in the folder: a process before had one, and this one is to have none.
pub(crate) fn remove_all(pins: &Path) {
    remove_all_but(pins, &[]);
}

/// Takes away guards that are pinned in the folder and not among these: settings may name other interfaces than before.
pub(super) fn remove_all_but(pins: &Path, kept: &[&Path]) {
    let entries = fs::read_dir(pins).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        let is_guard = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_guard && !kept.contains(&path.as_path()) {
            remove(&path);
        }
    }
}

fn remove(pin: &Path) {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("guard: cannot remove {}: {error}", pin.display());
        }
        _ => {}
    }
}
