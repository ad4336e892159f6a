//! Steering: the program that chooses a worker's socket for each new connection, and what it knows of the workers.
//!
//! Every listening address has a [`Group`]: a program with its maps, attached to all sockets that listen on the address,
//! those of other processes included. Maps that are pinned are shared with the processes before and after this one, so that
//! one store, of the generation in force, moves an address from one process to the next.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues, ReusePortSockArray};
use aya::programs::{Program, SkReuseport};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, Pod};
use tidegate_dataplane::WorkerLoad;
use tidegate_ebpf::steering::{
    CPUS, Control, Counters, HANDSHAKE, LANES, Lane, Load, MODE_CPU, MODE_LEAST_LOADED, WORKERS,
    cpu_slot, lane, slot,
};

use super::OBJECT;
use super::failure::Failure;
use super::memory::Words;
use super::pins::{Pins, PinsError};
use crate::settings::SteeringMode;

/// Programs in the order of preference: the first also moves connections away from sockets that are closed.
const PROGRAMS: [&str; 2] = ["steer", "steer_select"];
/// Maps that are pinned, and their names there.
const PINNED: [(&str, &str); 6] = [
    ("CONTROL", "control"),
    ("LANE", "lanes"),
    ("CPU_WORKERS", "cpu_workers"),
    ("LOADS", "loads"),
    ("SOCKETS", "sockets"),
    ("COUNTERS", "counters"),
];

const WORDS_OF_LOAD: usize = size_of::<Load>() / size_of::<u64>();
const HELD: usize = std::mem::offset_of!(Load, held) / size_of::<u64>();
const SEEN: usize = std::mem::offset_of!(Load, seen) / size_of::<u64>();
const STEERED: usize = std::mem::offset_of!(Load, steered) / size_of::<u64>();
const WORDS_OF_CONTROL: usize = size_of::<Control>() / size_of::<u64>();
const GENERATION: usize = std::mem::offset_of!(Control, generation) / size_of::<u64>();

/// A type of the maps, as aya copies it.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
struct Plain<T>(T);

#[allow(
    unsafe_code,
    reason = "a promise to aya about types that are made for this"
)]
mod plain {
    use super::{Counters, Lane, Plain, Pod};

    // SAFETY: integers alone, without padding (`repr(C)`, equal sizes).
    unsafe impl Pod for Plain<Lane> {}
    // SAFETY: the same.
    unsafe impl Pod for Plain<Counters> {}
}

/// Which addresses, with how many workers each.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// What is listened on.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Workers, each with a socket for every address.
    pub(crate) workers: u32,
    /// CPUs that the process may use, where they are to have workers of their own.
    pub(crate) cpus: Vec<usize>,
}

/// Steering of one process: a group for every address, and the lane of its generation in each.
#[derive(Debug)]
pub(crate) struct Steering {
    generation: u64,
    workers: u32,
    groups: Vec<Group>,
}

/// One address.
struct Group {
    address: SocketAddr,
    control: Words,
    loads: Arc<Words>,
    sockets: ReusePortSockArray<MapData>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    /// Which of [`PROGRAMS`] is loaded.
    program: &'static str,
    programs: Ebpf,
    /// A second descriptor of a listening socket, to attach the program by.
    listening: Option<TcpListener>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("address", &self.address)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Steering {
    /// Loads a program for every address and clears the lane of the generation. Nothing is steered yet.
    ///
    /// # Errors
    /// The kernel does not take maps or programs, or the process may not load them.
    pub(crate) fn load(
        mode: SteeringMode,
        generation: u64,
        to: &Addresses,
        pins: Option<&Pins>,
    ) -> Result<Self, Failure> {
        let lane = Lane {
            workers: to.workers,
            mode: match mode {
                SteeringMode::Cpu => MODE_CPU,
                SteeringMode::LeastLoaded | SteeringMode::Kernel => MODE_LEAST_LOADED,
            },
        };
        if to.workers > WORKERS {
            let most = format!(
                "{} workers, of which at most {WORKERS} can be steered to",
                to.workers
            );
            return Err(Failure::new("cannot steer", most));
        }
        let load = |address: &SocketAddr| {
            let folder = pins.map(|pins| pins.of(*address)).transpose();
            let folder = folder.map_err(|error: PinsError| Failure::new("cannot pin", error))?;
            let mut group = Group::load(*address, folder.as_deref())?;
            group.clear(generation, lane, &to.cpus)?;
            Ok(group)
        };
        Ok(Self {
            generation,
            workers: to.workers,
            groups: to
                .addresses
                .iter()
                .map(load)
                .collect::<Result<_, Failure>>()?,
        })
    }

    /// Whether connections that wait at a socket that is closed move to another one.
    pub(crate) fn migrates(&self) -> bool {
        self.groups.iter().all(|group| group.program == PROGRAMS[0])
    }

    /// For each worker, where it writes how busy it is.
    pub(crate) fn loads(&self) -> Vec<Box<dyn WorkerLoad>> {
        let of = |worker| WorkerCells {
            groups: self
                .groups
                .iter()
                .map(|group| group.loads.clone())
                .collect(),
            first: slot(lane(self.generation), worker) as usize * WORDS_OF_LOAD,
        };
        (0..self.workers)
            .map(|worker| Box::new(of(worker)) as Box<dyn WorkerLoad>)
            .collect()
    }

    /// Puts the listening sockets of an address, one for each worker, into its lane, and attaches the program. The
    /// generation in force goes on to get new connections.
    ///
    /// # Errors
    /// The kernel's; sockets must be listening with SO_REUSEPORT.
    pub(crate) fn place(
        &mut self,
        address: SocketAddr,
        sockets: &[TcpListener],
    ) -> Result<(), Failure> {
        let lane = lane(self.generation);
        let Some(group) = self
            .groups
            .iter_mut()
            .find(|group| group.address == address)
        else {
            return Ok(());
        };
        for (worker, socket) in (0..self.workers).zip(sockets) {
            group.sockets.set(slot(lane, worker), socket, 0)?;
        }
        let first = sockets.first().map(TcpListener::try_clone).transpose();
        group.listening =
            first.map_err(|error| Failure::new("cannot keep a listening socket", error))?;
        group.attach()
    }

    /// From here on new connections come to this process: at each address from one moment to the next.
    pub(crate) fn put_in_force(&self) {
        for group in &self.groups {
            group.store_generation(self.generation);
        }
    }

    /// Attaches the programs again, after a successor that attached its own has died, and takes new connections.
    pub(crate) fn take_back(&self) {
        for group in &self.groups {
            if let Err(error) = group.attach() {
                tracing::warn!(address = %group.address, "steering: {error}; the kernel chooses by its hash");
            }
        }
        self.put_in_force();
    }

    /// Lets go of the listening sockets, so that workers can close them.
    pub(crate) fn let_go(&mut self) {
        for group in &mut self.groups {
            group.listening = None;
        }
    }

    /// What the program did for each worker, over all addresses and CPUs.
    pub(crate) fn counters(&self) -> Vec<Counters> {
        let lane = lane(self.generation);
        let of = |worker| {
            let mut sum = Counters::default();
            for group in &self.groups {
                let Ok(values) = group.counters.get(&slot(lane, worker), 0) else {
                    continue;
                };
                for Plain(counters) in values.iter() {
                    sum.steered += counters.steered;
                    sum.fell_back += counters.fell_back;
                    sum.migrated += counters.migrated;
                }
            }
            sum
        };
        (0..self.workers).map(of).collect()
    }

    /// Takes whatever program is attached away from the sockets of an address: the kernel chooses again.
    pub(crate) fn detach(socket: &TcpListener) {
        // There may be none, which is the same.
        let _ = SkReuseport::detach(socket);
    }
}

impl Group {
    /// Makes the maps of an address, or opens those that are pinned in the folder, and loads a program.
    fn load(address: SocketAddr, folder: Option<&Path>) -> Result<Self, Failure> {
        let mut loader = EbpfLoader::new();
        if let Some(folder) = folder {
            for (map, name) in PINNED {
                loader.map_pin_path(map, folder.join(name));
            }
        }
        let mut programs = loader.load(OBJECT)?;
        let program = load_first(&mut programs)?;
        let loads = (LANES * WORKERS) as usize * WORDS_OF_LOAD;
        Ok(Self {
            address,
            control: words(&mut programs, "CONTROL", WORDS_OF_CONTROL)?,
            loads: Arc::new(words(&mut programs, "LOADS", loads)?),
            sockets: take(&mut programs, "SOCKETS")?.try_into()?,
            counters: take(&mut programs, "COUNTERS")?.try_into()?,
            program,
            programs,
            listening: None,
        })
    }

    /// Makes the lane of a generation ready for its process.
    fn clear(&mut self, generation: u64, lane_of: Lane, cpus: &[usize]) -> Result<(), Failure> {
        let lane = lane(generation);
        if lane_of.mode == MODE_CPU {
            self.cpu_workers(lane, lane_of.workers, cpus)?;
        }
        let zero = vec![
            Plain::default();
            nr_cpus().map_err(|(_, error)| Failure::new("cannot count CPUs", error))?
        ];
        for worker in 0..lane_of.workers {
            let slot = slot(lane, worker);
            let zero = PerCpuValues::try_from(zero.clone())
                .map_err(|error| Failure::new("cannot clear counters", error))?;
            self.counters.set(slot, zero, 0)?;
            for word in [HELD, SEEN, STEERED] {
                store(&self.loads, slot as usize * WORDS_OF_LOAD + word, 0);
            }
        }
        let mut lanes: Array<_, Plain<Lane>> = self.map("LANE")?.try_into()?;
        lanes.set(lane, Plain(lane_of), 0)?;
        Ok(())
    }

    /// Gives each CPU a worker: the first of the process's CPUs the first one, and so on.
    fn cpu_workers(&mut self, lane: u32, workers: u32, cpus: &[usize]) -> Result<(), Failure> {
        let mut map: Array<_, u32> = self.map("CPU_WORKERS")?.try_into()?;
        for cpu in 0..CPUS {
            let place = cpus.iter().position(|allowed| *allowed == cpu as usize);
            let place = place.and_then(|place| u32::try_from(place).ok());
            map.set(
                cpu_slot(lane, cpu),
                place.unwrap_or(cpu) % workers.max(1),
                0,
            )?;
        }
        Ok(())
    }

    fn map(&mut self, name: &'static str) -> Result<&mut Map, Failure> {
        let map = self.programs.map_mut(name);
        map.ok_or_else(|| Failure::new("cannot find a map in the object", name))
    }

    fn attach(&self) -> Result<(), Failure> {
        let (Some(socket), Some(Program::SkReuseport(program))) =
            (&self.listening, self.programs.program(self.program))
        else {
            return Ok(());
        };
        Ok(program.attach(socket)?)
    }

    fn store_generation(&self, generation: u64) {
        store(&self.control, GENERATION, generation);
    }
}

/// Loads the best program that the kernel takes, and names it.
fn load_first(programs: &mut Ebpf) -> Result<&'static str, Failure> {
    let mut first_failure = None;
    for name in PROGRAMS {
        match load_program(programs, name) {
            Ok(()) => return Ok(name),
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
    Err(first_failure.unwrap_or_else(|| Failure::new("cannot load a program", "there is none")))
}

/// Loads one of [`PROGRAMS`] into the kernel.
pub(super) fn load_program(programs: &mut Ebpf, name: &'static str) -> Result<(), Failure> {
    let program = programs.program_mut(name);
    let program: &mut SkReuseport = program
        .ok_or_else(|| Failure::new("cannot find a program in the object", name))?
        .try_into()?;
    Ok(program.load()?)
}

fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, Failure> {
    let map = programs.take_map(name);
    map.ok_or_else(|| Failure::new("cannot find a map in the object", name))
}

fn words(programs: &mut Ebpf, name: &'static str, length: usize) -> Result<Words, Failure> {
    match take(programs, name)? {
        Map::Array(map) => Words::of(&map, length)
            .map_err(|error| Failure::new("cannot use a map as memory", error)),
        _ => Err(Failure::new("cannot use a map as memory", name)),
    }
}

fn store(words: &Words, index: usize, value: u64) {
    if let Some(word) = words.word(index) {
        word.store(value, Ordering::SeqCst);
    }
}

/// The places of one worker, in the maps of every address.
#[derive(Debug)]
struct WorkerCells {
    groups: Vec<Arc<Words>>,
    first: usize,
}

impl WorkerLoad for WorkerCells {
    fn set(&self, open: usize, handshakes: usize) {
        let held = open as u64 + handshakes as u64 * HANDSHAKE;
        for words in &self.groups {
            if let Some(word) = words.word(self.first + HELD) {
                word.store(held, Ordering::Relaxed);
            }
        }
    }

    fn caught_up(&self) {
        for words in &self.groups {
            if let (Some(steered), Some(seen)) = (
                words.word(self.first + STEERED),
                words.word(self.first + SEEN),
            ) {
                seen.store(steered.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

/// CPUs that the process may use, in order.
///
/// # Errors
/// The system's.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}
