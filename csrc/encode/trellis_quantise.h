/* The symbols that an encoder chooses for a dependent pass: see trellis.h. */

#ifndef MVMIC_TRELLIS_QUANTISE_H
#define MVMIC_TRELLIS_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

/* What an encoder weighs against each other. */
typedef struct {
    double spacing;    /* of levels, in steps: half of what a quantiser has */
    const float *bits; /* [tables][width]: of a number by table and magnitude */
    size_t width;      /* the last column is for all magnitudes above */
    size_t second;     /* tables of the second quantiser lie so far behind */
} TrellisCosts;

/* The symbols (levels) of a dependent pass that cost least, for n coded places: bits, and price / 2
 * for the squared error of a position in steps. No table index plus `second` may be past the last
 * table. 0 if there is not enough memory, else 1. */
int trellis_quantise(const TrellisCosts *costs, const double *positions, const uint8_t *tables,
                     const double *prices, size_t n, int16_t *symbols);

#endif
