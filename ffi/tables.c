/* See tables.h. */
#include "tables.h"

#include <rte_lcore.h>

void shim_lpm_lookup_bulk(const struct rte_lpm *lpm, const uint32_t *addresses, uint32_t *entries, unsigned int count)
{
	rte_lpm_lookup_bulk(lpm, addresses, entries, count);
}

void shim_lpm_lookup_each(const struct rte_lpm *lpm, const uint32_t *addresses, uint32_t *entries, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		uint32_t next_hop;

		entries[i] = rte_lpm_lookup(lpm, addresses[i], &next_hop) == 0 ? RTE_LPM_LOOKUP_SUCCESS | next_hop : 0;
	}
}

uint64_t shim_heap_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < rte_socket_count(); i++) {
		struct rte_malloc_socket_stats stats;

		if (rte_malloc_get_socket_stats(rte_socket_id_by_idx(i), &stats) == 0)
			bytes += stats.heap_allocsz_bytes;
	}
	return bytes;
}
