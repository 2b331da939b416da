/* DPDK's own lookup tables, for comparison: bound only with the feature `tables`, which the measuring program asks for.
 * The product looks nothing up in them.
 *
 * Bulk and single lookups of rte_lpm are inline functions, so they stand here as one call a burst.
 */
#ifndef SEXTANT_DPDK_TABLES_H
#define SEXTANT_DPDK_TABLES_H

#include <stdint.h>

#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>
#include <rte_vect.h>

/* What a lookup of rte_lpm leaves behind for an address: the bit of RTE_LPM_LOOKUP_SUCCESS and the next hop. */
void shim_lpm_lookup_bulk(const struct rte_lpm *lpm, const uint32_t *addresses, uint32_t *entries, unsigned int count);

/* The same, `count` single lookups; 0 stands for an address that no prefix matches. */
void shim_lpm_lookup_each(const struct rte_lpm *lpm, const uint32_t *addresses, uint32_t *entries, unsigned int count);

/* RTE_LPM_LOOKUP_SUCCESS. */
static const uint32_t DPDK_LPM_FOUND = RTE_LPM_LOOKUP_SUCCESS;

/* Bytes that DPDK's heaps have handed out, all sockets together. */
uint64_t shim_heap_bytes(void);

#endif
