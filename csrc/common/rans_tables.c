#include "rans_internal.h"

void rans_tables_build(RansTables *tables, const uint16_t *half, const uint16_t *cdf, size_t width)
{
    uint32_t first = 0;
    for (uint32_t t = 1; t < tables->count; t++) {
        const uint16_t *row = cdf + (size_t)t * width;
        uint16_t *slots = tables->slots + (size_t)t * RANS_SLOTS;
        uint32_t n = 2u * half[t] + 2u;
        tables->tables[t].first = first;
        tables->tables[t].half = half[t];
        for (uint32_t e = 0; e < n; e++) {
            uint32_t freq = (uint32_t)row[e + 1] - row[e];
            tables->entries[first + e].start = (uint32_t)row[e] << RANS_SLOT_SHIFT;
            tables->entries[first + e].freq = freq << RANS_SLOT_SHIFT;
            tables->reciprocals[first + e] = rans_reciprocal(freq);
            for (uint32_t slot = row[e]; slot < row[e + 1]; slot++)
                slots[slot] = (uint16_t)e;
        }
        first += n;
    }
}
