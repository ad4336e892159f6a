//! Which worker gets a new connection, and what becomes of a process that handed its connections over.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::ValueEnum;

/// What decides which worker gets a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SteeringMode {
    /// The less loaded of two workers that are chosen by chance
    #[default]
    LeastLoaded,
    /// The worker of the CPU that took the packet; workers are pinned to CPUs
    Cpu,
    /// The kernel's hash over addresses and ports; no eBPF program
    Kernel,
}

impl SteeringMode {
    /// The mode as it is written in settings, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastLoaded => "least-loaded",
            Self::Cpu => "cpu",
            Self::Kernel => "kernel",
        }
    }
}

impl FromStr for SteeringMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "least-loaded" => Ok(Self::LeastLoaded),
            "cpu" => Ok(Self::Cpu),
            "kernel" => Ok(Self::Kernel),
            _ => Err("write least-loaded, cpu or kernel".to_owned()),
        }
    }
}

/// What a process does when another one has taken over and nothing is open any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AfterHandOver {
    /// It ends, with exit code 0
    Exit,
    /// It waits for SIGTERM: Kubernetes starts the container of a pod again when it ends
    Wait,
}

impl AfterHandOver {
    /// What is done unless a setting says otherwise: `wait` in a pod, `exit` elsewhere.
    pub fn usual() -> Self {
        Self::beside(std::env::var_os("KUBERNETES_SERVICE_HOST").as_deref())
    }

    /// The same as it is written in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Wait => "wait",
        }
    }

    /// Kubernetes gives the address of its API to every container.
    fn beside(kubernetes: Option<&OsStr>) -> Self {
        match kubernetes {
            Some(address) if !address.is_empty() => Self::Wait,
            _ => Self::Exit,
        }
    }
}

impl FromStr for AfterHandOver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "exit" => Ok(Self::Exit),
            "wait" => Ok(Self::Wait),
            _ => Err("write exit or wait".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_the_file_have_the_same_words() {
        for mode in SteeringMode::value_variants() {
            let word = mode.to_possible_value().unwrap();
            assert_eq!(word.get_name(), mode.as_str());
            assert_eq!(mode.as_str().parse(), Ok(*mode));
        }
        for what in AfterHandOver::value_variants() {
            let word = what.to_possible_value().unwrap();
            assert_eq!(word.get_name(), what.as_str());
            assert_eq!(what.as_str().parse(), Ok(*what));
        }
    }

    #[test]
    fn a_pod_waits() {
        let beside = |address| AfterHandOver::beside(address);
        assert_eq!(beside(Some(OsStr::new("10.96.0.1"))), AfterHandOver::Wait);
        assert_eq!(beside(Some(OsStr::new(""))), AfterHandOver::Exit);
        assert_eq!(beside(None), AfterHandOver::Exit);
    }
}
