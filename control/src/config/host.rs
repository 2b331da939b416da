//! What a configuration asks of the machine it is for.

use std::sync::OnceLock;

/// The machine, as far as a configuration depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    cores: Vec<usize>,
}

impl Host {
    /// A machine whose processes may use these cores.
    #[must_use]
    pub fn new(mut cores: Vec<usize>) -> Self {
        cores.sort_unstable();
        cores.dedup();
        Self { cores }
    }

    /// The cores this process may use. Asked once, when the first configuration is read: later the calling thread may
    /// itself be pinned.
    #[must_use]
    pub fn of_this_process() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            let allowed = rustix::thread::sched_getaffinity(None).ok();
            let cores = allowed.map(|set| {
                (0..rustix::thread::CpuSet::MAX_CPU).filter(move |core| set.is_set(*core))
            });
            // A kernel that does not say has core 0.
            Self::new(cores.map_or_else(|| vec![0], Iterator::collect))
        })
    }

    /// Whether a thread can be put on this core.
    #[must_use]
    pub fn has_core(&self, core: usize) -> bool {
        self.cores.binary_search(&core).is_ok()
    }

    /// The last core, another than `taken` if there is one.
    #[must_use]
    pub fn last_core_except(&self, taken: Option<usize>) -> usize {
        let free = self.cores.iter().rev().find(|core| Some(**core) != taken);
        free.or(self.cores.last()).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_free_core_is_chosen() {
        let host = Host::new(vec![3, 0, 2, 3]);
        assert_eq!(host.last_core_except(None), 3);
        assert_eq!(host.last_core_except(Some(3)), 2);
        assert_eq!(host.last_core_except(Some(9)), 3);
        assert_eq!(Host::new(vec![5]).last_core_except(Some(5)), 5);
        assert!(host.has_core(2) && !host.has_core(1));
    }

    #[test]
    fn this_process_runs_somewhere() {
        let host = Host::of_this_process();
        assert!(host.has_core(host.last_core_except(None)));
    }
}
