//! The programs that the hosts of the laboratory run: `sextant lab-peer …`, in their namespaces.
//!
//! Each is bounded in bytes, count and time, prints one JSON line, and exits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// No peer waits longer than this for the other.
const PATIENCE: Duration = Duration::from_secs(30);
const BLOCK: usize = 64 * 1024;

/// What a peer does.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Peer {
    /// Receive one TCP stream to its end.
    TcpReceive {
        /// Port to listen on.
        port: u16,
    },
    /// Send a seeded stream over TCP.
    TcpSend {
        /// To whom.
        to: SocketAddr,
        /// How much.
        bytes: u64,
        /// Which stream.
        #[arg(default_value_t = 1)]
        seed: u64,
    },
    /// Send every datagram back, until none came for a while.
    UdpEcho {
        /// Address and port to listen on; answers come from there.
        at: SocketAddr,
        /// Seconds without a datagram after which it ends.
        #[arg(default_value_t = 3)]
        idle_seconds: u64,
    },
    /// Send datagrams of all sizes one after the other and compare each answer.
    UdpAsk {
        /// To whom.
        to: SocketAddr,
        /// How many.
        count: u32,
        /// Largest payload, bytes.
        #[arg(default_value_t = 1200)]
        largest: usize,
    },
    /// Send numbered datagrams at a steady rate.
    UdpSend {
        /// To whom.
        to: SocketAddr,
        /// How many.
        count: u32,
        /// How many a second; 0: as fast as it goes.
        per_second: u32,
        /// Payload, bytes.
        #[arg(default_value_t = 64)]
        size: usize,
    },
    /// Send numbered datagrams from many ports in turn at a steady rate, and see which are sent back.
    UdpFlows {
        /// To whom.
        to: SocketAddr,
        /// How many ports, each a flow.
        flows: u16,
        /// How many datagrams in each flow.
        rounds: u32,
        /// How many a second in all.
        per_second: u32,
        /// The first port.
        #[arg(default_value_t = 20_000)]
        first_port: u16,
    },
    /// Count numbered datagrams until none came for a while.
    UdpCount {
        /// Port to listen on.
        port: u16,
        /// Seconds without a datagram after which it ends.
        #[arg(default_value_t = 2)]
        idle_seconds: u64,
    },
}

/// Run a peer to its end; what it has to report.
///
/// # Errors
/// When the network fails it, or the other side does not come.
pub fn run(peer: &Peer) -> std::io::Result<Value> {
    match peer {
        Peer::TcpReceive { port } => tcp_receive(*port),
        Peer::TcpSend { to, bytes, seed } => tcp_send(*to, *bytes, *seed),
        Peer::UdpEcho { at, idle_seconds } => udp_echo(*at, Duration::from_secs(*idle_seconds)),
        Peer::UdpAsk { to, count, largest } => udp_ask(*to, *count, *largest),
        Peer::UdpSend {
            to,
            count,
            per_second,
            size,
        } => udp_send(*to, *count, *per_second, *size),
        Peer::UdpFlows {
            to,
            flows,
            rounds,
            per_second,
            first_port,
        } => udp_flows(*to, *flows, *rounds, *per_second, *first_port),
        Peer::UdpCount { port, idle_seconds } => {
            udp_count(*port, Duration::from_secs(*idle_seconds))
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Any own address for a listener; IPv4 clients come to it as IPv4-mapped ones.
fn any(port: u16) -> (Ipv6Addr, u16) {
    (Ipv6Addr::UNSPECIFIED, port)
}

/// Any own address of the family of `to`, and any port.
fn any_towards(to: SocketAddr) -> SocketAddr {
    let address = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, 0)
}

fn tcp_receive(port: u16) -> std::io::Result<Value> {
    let listener = TcpListener::bind(any(port))?;
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    let (mut stream, from) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut digest, mut bytes) = (Sha256::new(), 0_u64);
    let mut block = vec![0; BLOCK];
    loop {
        let read = stream.read(&mut block)?;
        if read == 0 {
            break;
        }
        digest.update(&block[..read]);
        bytes += read as u64; // `as`: a length
    }
    Ok(json!({ "bytes": bytes, "sha256": hex(&digest.finalize()), "from": from.to_string() }))
}

fn tcp_send(to: SocketAddr, bytes: u64, seed: u64) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut digest, mut left) = (Sha256::new(), bytes);
    let mut block = vec![0; BLOCK];
    let start = Instant::now();
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        random.fill(&mut block[..length]);
        digest.update(&block[..length]);
        stream.write_all(&block[..length])?;
        left -= length as u64; // `as`: at most BLOCK
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The end of the other side's stream says that it has read everything.
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.read(&mut block)?;
    Ok(
        json!({ "bytes": bytes, "sha256": hex(&digest.finalize()), "seconds": start.elapsed().as_secs_f64() }),
    )
}

fn udp_echo(at: SocketAddr, idle: Duration) -> std::io::Result<Value> {
    let socket = UdpSocket::bind(at)?;
    let mut datagram = vec![0; BLOCK];
    let mut echoed = 0_u64;
    // Patient for the first, then only as long as asked.
    socket.set_read_timeout(Some(PATIENCE))?;
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        socket.send_to(&datagram[..length], from)?;
        echoed += 1;
        socket.set_read_timeout(Some(idle))?;
    }
    Ok(json!({ "echoed": echoed }))
}

fn udp_ask(to: SocketAddr, count: u32, largest: usize) -> std::io::Result<Value> {
    let socket = UdpSocket::bind(any_towards(to))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut answered, mut wrong) = (0, 0);
    let mut answer = vec![0; BLOCK];
    for number in 0..count {
        let mut question = vec![0; 4 + random.usize(..=largest.saturating_sub(4))];
        random.fill(&mut question);
        question[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&question)?;
        match socket.recv(&mut answer) {
            Ok(length) if answer[..length] == question[..] => answered += 1,
            Ok(_) => wrong += 1,
            Err(_) => {}
        }
    }
    Ok(json!({ "asked": count, "answered": answered, "wrong": wrong }))
}

fn udp_send(to: SocketAddr, count: u32, per_second: u32, size: usize) -> std::io::Result<Value> {
    let socket = UdpSocket::bind(any_towards(to))?;
    let start = Instant::now();
    let mut datagram = vec![0x5a; size.max(4)];
    let mut sent = 0_u32;
    for number in 0..count {
        if per_second > 0 {
            let due = start + Duration::from_secs_f64(f64::from(number) / f64::from(per_second));
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            }
        }
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        if socket.send_to(&datagram, to).is_ok() {
            sent += 1;
        }
        if start.elapsed() > PATIENCE * 2 {
            break;
        }
    }
    Ok(json!({ "sent": sent, "seconds": start.elapsed().as_secs_f64() }))
}

/// `silent` are the flows, by their ports, in which a datagram was not answered, and `outage_ms` is the time between the
/// first and the last of those datagrams.
fn udp_flows(
    to: SocketAddr,
    flows: u16,
    rounds: u32,
    per_second: u32,
    first_port: u16,
) -> std::io::Result<Value> {
    let mut sockets = Vec::new();
    for port in (first_port..).take(flows.into()) {
        let mut from = any_towards(to);
        from.set_port(port);
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        sockets.push((port, socket));
    }
    // When each datagram was sent, until its answer is there.
    let mut unanswered = BTreeMap::new();
    let drain = |socket: &UdpSocket, unanswered: &mut BTreeMap<u32, (u16, Instant)>| {
        let mut answer = [0; 64];
        while let Ok(length) = socket.recv(&mut answer) {
            if let Some(number) = answer[..length].first_chunk::<4>() {
                unanswered.remove(&u32::from_be_bytes(*number));
            }
        }
    };
    let start = Instant::now();
    let mut sent = 0_u32;
    for (port, socket) in (0..rounds).flat_map(|_| &sockets) {
        let due = start + Duration::from_secs_f64(f64::from(sent) / f64::from(per_second.max(1)));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        drain(socket, &mut unanswered);
        let mut datagram = [0x5a; 64];
        datagram[..4].copy_from_slice(&sent.to_be_bytes());
        unanswered.insert(sent, (*port, Instant::now()));
        sent += 1;
        // An error here may be the answer to an earlier datagram. Either way this one is not answered.
        let _ = socket.send(&datagram);
        if start.elapsed() > PATIENCE {
            break;
        }
    }
    let last = Instant::now();
    while !unanswered.is_empty() && last.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(5));
        for (_, socket) in &sockets {
            drain(socket, &mut unanswered);
        }
    }
    let silent: BTreeSet<u16> = unanswered.values().map(|(port, _)| *port).collect();
    let times = || unanswered.values().map(|(_, time)| *time);
    let outage = match (times().min(), times().max()) {
        (Some(first), Some(last)) => last - first,
        _ => Duration::ZERO,
    };
    Ok(json!({
        "sent": sent,
        "unanswered": unanswered.len(),
        "silent": silent,
        "outage_ms": outage.as_secs_f64() * 1e3,
        "seconds": start.elapsed().as_secs_f64(),
    }))
}

fn udp_count(port: u16, idle: Duration) -> std::io::Result<Value> {
    let socket = UdpSocket::bind(any(port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut datagram = vec![0; BLOCK];
    let (mut received, mut out_of_order, mut last) = (0_u64, 0_u64, None);
    while let Ok((length, _)) = socket.recv_from(&mut datagram) {
        let Some(number) = datagram[..length]
            .first_chunk::<4>()
            .copied()
            .map(u32::from_be_bytes)
        else {
            continue;
        };
        received += 1;
        if last.is_some_and(|last| number < last) {
            out_of_order += 1;
        }
        last = Some(number);
        socket.set_read_timeout(Some(idle))?;
    }
    Ok(json!({ "received": received, "out_of_order": out_of_order }))
}
