//! Why something in the kernel could not be had, in a word for metrics and in a sentence for people.

use std::error::Error;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

/// Why a program is not in the kernel.
#[derive(Debug, Error)]
#[error("{doing}: {}", chain(.cause.as_ref()))]
pub(crate) struct Failure {
    doing: &'static str,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(doing: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            doing,
            cause: cause.into(),
        }
    }

    /// A word for it, as in the metric `tidegate_steering_mode`.
    pub(crate) fn word(&self) -> &'static str {
        match self.system_error() {
            Some(libc::EPERM | libc::EACCES) if !self.is_verifiers() => "no-capability",
            Some(libc::ENOSYS) => "no-bpf",
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG | libc::EPERM | libc::EACCES) => {
                "old-kernel"
            }
            _ => "failed",
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.word() {
            "no-capability" => {
                "grant the capabilities BPF and NET_ADMIN (`tidegate doctor` shows what is missing)"
            }
            "no-bpf" => "use a kernel with CONFIG_BPF_SYSCALL",
            "old-kernel" => "use kernel 5.14 or newer",
            _ => "`tidegate doctor` shows what can be loaded",
        }
    }

    /// Whether the kernel has read the program and would not have it.
    fn is_verifiers(&self) -> bool {
        let mut error: Option<&(dyn Error + 'static)> = Some(self.cause.as_ref());
        while let Some(this) = error {
            if let Some(ProgramError::LoadError { verifier_log, .. }) = this.downcast_ref() {
                return !verifier_log.to_string().trim().is_empty();
            }
            error = this.source();
        }
        false
    }

    pub(super) fn system_error(&self) -> Option<i32> {
        let mut error: Option<&(dyn Error + 'static)> = Some(self.cause.as_ref());
        while let Some(this) = error {
            if let Some(system) = this.downcast_ref::<io::Error>() {
                return system.raw_os_error();
            }
            error = this.source();
        }
        None
    }
}

impl From<EbpfError> for Failure {
    fn from(error: EbpfError) -> Self {
        Self::new("cannot make the maps", error)
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        Self::new("cannot use a map", error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::new("cannot load the program", error)
    }
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = first_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The verifier's log follows the first line.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(system: i32) -> Failure {
        Failure::new("cannot do it", io::Error::from_raw_os_error(system))
    }

    #[test]
    fn the_systems_error_gives_the_word() {
        assert_eq!(failure(libc::EPERM).word(), "no-capability");
        assert_eq!(failure(libc::ENOSYS).word(), "no-bpf");
        assert_eq!(failure(libc::EINVAL).word(), "old-kernel");
        assert_eq!(failure(libc::EIO).word(), "failed");
    }

    #[test]
    fn a_failure_says_what_and_why() {
        let text = failure(libc::EPERM).to_string();
        assert!(
            text.starts_with("cannot do it: Operation not permitted"),
            "{text}"
        );
    }
}
