/* Chooses the symbols of a dependent pass; see trellis.h. Only encoders need it. */

#ifndef MVMIC_TRELLIS_QUANTISE_H
#define MVMIC_TRELLIS_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

/* What symbols cost. */
typedef struct {
    double spacing;    /* between levels, in steps; one quantiser has twice this spacing */
    const float *bits; /* [tables][width], bits of a number by table and magnitude */
    size_t width;      /* the last column is for all larger magnitudes */
    size_t second;     /* distance from a table to that of the second quantiser */
} TrellisCosts;

/* The symbols (levels) of a dependent pass that cost least, for n coded places. The cost is bits
 * plus price / 2 times the squared error of a position in steps. No table index plus `second` may
 * be past the last table. Returns 0 if there is not enough memory, else 1. */
int trellis_quantise(const TrellisCosts *costs, const double *positions, const uint8_t *tables,
                     const double *prices, size_t n, int16_t *symbols);

#endif
