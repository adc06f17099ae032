/* allocate.h: memory of the exact size, so that AddressSanitizer sees the first byte too many. */
#ifndef FUZZ_ALLOCATE_H
#define FUZZ_ALLOCATE_H

#include <string.h>

#include "require.h"

/* Whatever was there before must not matter. As a context of residual.h this is one that learned.
 */
static void *allocate(size_t count, size_t size)
{
    void *memory = malloc(count * size);
    REQUIRE(memory != NULL || count * size == 0);
    memset(memory, 0x54, count * size);
    return memory;
}

#endif
