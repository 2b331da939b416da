//! Packet memory: a fixed number of buffers, taken and returned in bursts.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::frame::{BURST_MAX, Burst, Frame};

use super::eal::Eal;
use super::mbuf::Mbuf;
use super::process::Process;
use super::{Errno, Memory};

/// Most buffers DPDK keeps in one thread's cache.
const CACHE_MAX: u32 = 512;

/// Which buffers to make.
#[derive(Debug, Clone, Copy)]
pub struct MempoolConfig<'a> {
    /// Unique in the process, at most 25 bytes.
    pub name: &'a str,
    /// How many buffers. Every receive descriptor of every port holds one, every frame on its way another.
    pub mbufs: u32,
    /// Buffers kept by each registered thread for itself; cut to what the pool's size allows.
    pub cache: u32,
    /// Longest frame a buffer takes; the headroom of 128 bytes comes on top.
    pub data_room: u16,
    /// NUMA socket the memory shall be on; any if absent.
    pub socket: Option<u32>,
}

/// No packet memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mempool `{name}` of {mbufs} packet buffers ({mib} MiB in {memory}): {errno}")]
pub struct MempoolError {
    name: String,
    mbufs: u32,
    mib: u64,
    memory: &'static str,
    errno: Errno,
}

/// A pool of packet buffers. Cloning shares it. It lives until DPDK ends.
#[derive(Clone)]
pub struct Mempool {
    pool: Arc<Pool>,
}

struct Pool {
    pointer: NonNull<dpdk_sys::rte_mempool>,
    data_room: u16,
    size: u32,
    _process: Arc<Process>,
}

// SAFETY: DPDK's mempools (ring_mp_mc) may be used from any thread; caches belong to threads, not to this value.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Mempool {
    /// Make a pool.
    ///
    /// # Errors
    /// When memory does not suffice, or the name is taken or too long.
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, MempoolError> {
        let headroom = dpdk_sys::RTE_PKTMBUF_HEADROOM;
        let failed = |errno| MempoolError {
            name: config.name.to_owned(),
            mbufs: config.mbufs,
            // The descriptor of 128 bytes, the buffer, and the pool's own header.
            mib: (u64::from(config.mbufs)
                * (u64::from(config.data_room) + u64::from(headroom) + 192))
                >> 20,
            memory: match eal.memory() {
                Memory::HugePages { .. } => "huge pages",
                Memory::Ordinary => "ordinary pages",
            },
            errno,
        };
        let name = CString::new(config.name).map_err(|_| failed(Errno(libc::EINVAL)))?;
        let buffer = u16::try_from(u32::from(config.data_room) + headroom)
            .map_err(|_| failed(Errno(libc::EINVAL)))?;
        // DPDK refuses a cache of which one and a half would not fit into the pool.
        let cache = config.cache.min(CACHE_MAX).min(config.mbufs / 2);
        let socket = config
            .socket
            .and_then(|socket| i32::try_from(socket).ok())
            .unwrap_or(-1); // SOCKET_ID_ANY
        // SAFETY: DPDK is started, as there is an Eal; the name is terminated and outlives the call.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr(), config.mbufs, cache, 0, buffer, socket)
        };
        let pointer = NonNull::new(pool).ok_or_else(|| failed(Errno::of_thread()))?;
        eal.process().keep_pool(pointer);
        Ok(Self {
            pool: Arc::new(Pool {
                pointer,
                data_room: config.data_room,
                size: config.mbufs,
                _process: Arc::clone(eal.process()),
            }),
        })
    }

    /// A frame with these bytes; `None` when no buffer is left or they do not fit into one.
    #[must_use]
    pub fn allocate(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut burst = Burst::new();
        self.allocate_burst(&mut burst, 1);
        let mut frame = burst.pop()?;
        frame.resize(bytes.len()).ok()?;
        frame.bytes_mut().copy_from_slice(bytes);
        Some(frame)
    }

    /// Append `count` empty frames, all or none (also none when they do not fit in `burst`); how many.
    pub fn allocate_burst(&self, burst: &mut Burst<Mbuf>, count: usize) -> usize {
        if count > burst.remaining_capacity() {
            return 0;
        }
        let count_c = u32::try_from(count).expect("at most BURST_MAX");
        let mut mbufs: [Option<Mbuf>; BURST_MAX] = [const { None }; BURST_MAX];
        // SAFETY: `Option<Mbuf>` is a pointer that may be null (Mbuf is a transparent NonNull), the array has room for
        // `count`, and the pool is alive. On success each pointer is a fresh descriptor owned by nobody else.
        let result = unsafe {
            dpdk_sys::shim_pktmbuf_alloc_bulk(self.as_ptr(), mbufs.as_mut_ptr().cast(), count_c)
        };
        if result != 0 {
            return 0;
        }
        burst.extend(mbufs.into_iter().flatten());
        count
    }

    /// Buffers that nobody holds. Approximate while other threads work.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// Buffers that are in a device's rings or on their way. Approximate while other threads work.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.as_ptr()) }
    }

    /// Longest frame a buffer takes.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.pool.data_room
    }

    /// All buffers.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.pool.size
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.pool.pointer.as_ptr()
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mempool({} of {} in use)", self.in_use(), self.size())
    }
}
