/* See shim.h. */
#define _GNU_SOURCE

#include "shim.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* --- versions: what src/layout.rs declares by hand, checked against the installed headers ---
 *
 * Members of rte_mbuf moved into anonymous unions in 24.11 (from marker arrays) but kept their offsets; offsetof looks
 * through both spellings. */
#define FIELD(name, offset) \
	_Static_assert(offsetof(struct rte_mbuf, name) == (offset), "rte_mbuf." #name " moved: see ffi/src/layout.rs")
FIELD(buf_addr, 0);
FIELD(data_off, 16);
FIELD(refcnt, 18);
FIELD(nb_segs, 20);
FIELD(port, 22);
FIELD(ol_flags, 24);
FIELD(packet_type, 32);
FIELD(pkt_len, 36);
FIELD(data_len, 40);
FIELD(vlan_tci, 42);
FIELD(buf_len, 54);
FIELD(pool, 56);
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf changed its size: see ffi/src/layout.rs");

/* rte_eth_link is a structure until 23.11 and has a union inside from 24.11 on; the fields read here exist in both. */
int shim_link(uint16_t port, struct shim_link *link)
{
	struct rte_eth_link raw;

	memset(&raw, 0, sizeof(raw));
	int result = rte_eth_link_get_nowait(port, &raw);
	link->speed_mbps = raw.link_speed;
	link->up = raw.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = raw.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return result;
}

/* --- inline functions and thread-local variables --- */

int shim_errno(void)
{
	return rte_errno;
}

bool shim_lcore_is_known(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

const char *shim_device_name(const struct rte_device *device)
{
	return device == NULL ? NULL : rte_dev_name(device);
}

/* --- the log --- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[16384];
static size_t log_length;
static FILE *log_stream;

static ssize_t log_write(void *cookie, const char *bytes, size_t size)
{
	(void)cookie;
	size_t kept = size < sizeof(log_text) ? size : sizeof(log_text);

	pthread_mutex_lock(&log_lock);
	if (kept > sizeof(log_text) - log_length) {
		size_t oldest = kept - (sizeof(log_text) - log_length);

		memmove(log_text, log_text + oldest, log_length - oldest);
		log_length -= oldest;
	}
	memcpy(log_text + log_length, bytes + (size - kept), kept);
	log_length += kept;
	pthread_mutex_unlock(&log_lock);
	return (ssize_t)size;
}

int shim_log_capture(uint32_t level)
{
	if (log_stream == NULL) {
		cookie_io_functions_t functions = { .write = log_write };

		log_stream = fopencookie(NULL, "w", functions);
		if (log_stream == NULL)
			return -1;
		setvbuf(log_stream, NULL, _IOLBF, 1024);
	}
	rte_log_set_global_level(level);
	return rte_openlog_stream(log_stream);
}

size_t shim_log_take(char *text, size_t size)
{
	if (log_stream != NULL)
		fflush(log_stream);
	pthread_mutex_lock(&log_lock);
	size_t taken = size < log_length ? size : log_length;

	memcpy(text, log_text, taken);
	memmove(log_text, log_text + taken, log_length - taken);
	log_length -= taken;
	pthread_mutex_unlock(&log_lock);
	return taken;
}
