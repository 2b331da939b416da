/* The C side of dpdk-sys: every DPDK header we bind, and what bindgen cannot bind: inline functions, thread-local
 * variables, function-like macros, and the few structures whose shape differs between DPDK versions.
 *
 * Everything here is for cold calls. Receiving, sending and mbuf fields are native Rust: nothing declared in this file is
 * called once a packet. rte_config.h is included by a compiler flag, see build.rs.
 */
#ifndef SEXTANT_DPDK_SHIM_H
#define SEXTANT_DPDK_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_build_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Macros of DPDK with arguments or casts inside, as typed constants. */
static const uint64_t DPDK_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t DPDK_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t DPDK_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t DPDK_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t DPDK_RSS_TCP = RTE_ETH_RSS_TCP;

/* Where this DPDK looks for its drivers. */
#define DPDK_PLUGIN_FOLDER RTE_EAL_PMD_PATH

/* rte_errno of the calling thread. */
int shim_errno(void);

/* Whether EAL knows the calling thread as an lcore of its own. */
bool shim_lcore_is_known(void);

/* rte_pktmbuf_alloc_bulk: all or none; 0 when all. */
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);

/* Name of a device on its bus ("0000:03:00.0", "net_tap0"). */
const char *shim_device_name(const struct rte_device *device);

struct shim_link {
	uint32_t speed_mbps; /* UINT32_MAX: unknown */
	bool up;
	bool full_duplex;
};

/* rte_eth_link_get_nowait. */
int shim_link(uint16_t port, struct shim_link *link);

/* From now on, DPDK's messages up to the severity `level` (RTE_LOG_*) go to a bounded buffer, the oldest lines being
 * overwritten, instead of to stderr and syslog. Callable before rte_eal_init; 0 when done. */
int shim_log_capture(uint32_t level);

/* Move at most `size` of the oldest captured bytes to `text`; the number of bytes. */
size_t shim_log_take(char *text, size_t size);

#endif
