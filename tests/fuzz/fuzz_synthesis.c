/*
 * fuzz_synthesis.c: a libFuzzer target over the C behind csrc/common/synthesis.h.
 *
 * An input says which function runs, on what sizes, with what weights and activations, and how its
 * rows are cut into ranges. Weights keep the bounds that synthesis.h asks for, and come as near to
 * them as may be; synthnet.pyx refuses others. The function runs on every path that the processor
 * has, on all rows at once and on each range, and must give the integers of slow_synthesis.h.
 *
 * Each range gets copies of what it may read and write, and scratch, which are allocations of their
 * own and of the exact size, so that AddressSanitizer sees the first element too many.
 *
 * Every finding is an abort().
 */
#include <stdlib.h>
#include <string.h>

#include "require.h"
#include "slow_synthesis.h"
#include "synthesis.h"

#define LANES SYNTH_LANES
#define FILLED(channels) (((channels) + LANES - 1) / LANES * LANES)

/* ---- memory ---- */

#define JUNK 0x4D /* what memory holds at first */
#define GAP 3     /* elements between the planes of a copy */
#define HELD_MAX 512

/* Everything allocated for an input. */
static void *held[HELD_MAX];
static size_t held_count;

static void *allocate(size_t count, size_t size)
{
    void *memory = malloc(count * size);
    REQUIRE(held_count < HELD_MAX && (memory != NULL || count * size == 0));
    held[held_count++] = memory;
    if (count * size != 0)
        memset(memory, JUNK, count * size);
    return memory;
}

static void free_all(void)
{
    while (held_count > 0)
        free(held[--held_count]);
}

/* A copy of `n` elements from `first` on, of each of `count` planes of `all` elements. */
static void *cut(const void *planes, size_t size, size_t count, size_t all, size_t first, size_t n)
{
    uint8_t *copy = allocate(count * n + (count - 1) * GAP, size);
    for (size_t c = 0; c < count; c++)
        memcpy(copy + c * (n + GAP) * size, (const uint8_t *)planes + (c * all + first) * size,
               n * size);
    return copy;
}

/* The reverse. */
static void put_back(const void *copy, void *planes, size_t size, size_t count, size_t all,
                     size_t first, size_t n)
{
    const uint8_t *from = copy;
    for (size_t c = 0; c < count; c++) {
        memcpy((uint8_t *)planes + (c * all + first) * size, from, n * size);
        from += n * size;
        for (size_t k = 0; k < GAP * size && c + 1 < count; k++)
            REQUIRE(*from++ == JUNK);
    }
}

/* ---- numbers ---- */

typedef struct {
    const uint8_t *bytes;
    size_t left;
} Input;

static unsigned take(Input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

static unsigned take_two(Input *input)
{
    unsigned low = take(input);
    return low | take(input) << 8;
}

/* How the numbers of an array are drawn: any, the smallest and the largest (at random, one of them
 * alone, in turns, or in runs), zeros but for an eighth or a ninth, or as the input says. */
typedef enum { ANY, ENDS, HIGH, LOW, TURNS, SPARSE, SMALL, RUNS, NINTHS, SPOKEN, WAYS } Way;

typedef struct {
    Input *input;
    Way way;
    unsigned run; /* the length of a run */
    uint32_t state, drawn, end;
} Draw;

static Draw draw_of(Input *input)
{
    Draw draw = {.input = input, .way = (Way)(take(input) % WAYS)};
    draw.run = 1 + take_two(input);
    draw.state = draw.run;
    return draw;
}

static uint32_t next(Draw *draw)
{
    draw->state = draw->state * 1664525u + 1013904223u;
    return draw->state >> 8;
}

static int64_t draw_one(Draw *draw, int64_t low, int64_t high)
{
    uint64_t bits = (uint64_t)next(draw) << 24;
    bits |= next(draw);
    unsigned chance = (unsigned)(bits >> 30) & 7, at = draw->drawn++;
    int64_t any = low + (int64_t)(bits % ((uint64_t)(high - low) + 1));
    switch (draw->way) {
    case ENDS: return chance & 1 ? low : high;
    case HIGH: return high;
    case LOW: return low;
    case TURNS: return at & 1 ? low : high;
    case SPARSE: return chance != 0 ? slow_clamp(0, low, high) : any;
    case SMALL: return slow_clamp((int64_t)chance - 4, low, high);
    case RUNS:
        draw->end = at % draw->run == 0 ? chance & 1 : draw->end;
        return draw->end ? low : high;
    case NINTHS: return at % 9 == 0 ? high : slow_clamp(0, low, high);
    case SPOKEN: return slow_clamp((int16_t)take_two(draw->input), low, high);
    default: return any;
    }
}

static int16_t *draw_shorts(Input *input, size_t count, int64_t low, int64_t high)
{
    Draw draw = draw_of(input);
    int16_t *out = allocate(count, sizeof *out);
    for (size_t k = 0; k < count; k++)
        out[k] = (int16_t)draw_one(&draw, low, high);
    return out;
}

static int32_t *draw_ints(Input *input, size_t count, int64_t low, int64_t high)
{
    Draw draw = draw_of(input);
    int32_t *out = allocate(count, sizeof *out);
    for (size_t k = 0; k < count; k++)
        out[k] = (int32_t)draw_one(&draw, low, high);
    return out;
}

static uint8_t *draw_modes(Input *input, size_t count)
{
    Draw draw = draw_of(input);
    uint8_t *out = allocate(count, 1);
    for (size_t k = 0; k < count; k++)
        out[k] = (uint8_t)draw_one(&draw, 0, 7);
    return out;
}

/* Activations of a map within low to high, those around it too, and 0 for channels from `channels`
 * on. */
static int16_t *draw_map(Input *input, size_t rows, size_t w, size_t channels, int64_t low,
                         int64_t high)
{
    size_t stride = FILLED(channels), count = (rows + 2) * (w + 2) * stride;
    int16_t *out = draw_shorts(input, count, low, high);
    for (size_t k = 0; k < count; k++)
        out[k] = k % stride < channels ? out[k] : 0;
    return out;
}

static int64_t magnitude(int64_t x)
{
    return x < 0 ? -x : x;
}

static int64_t sum_of(const int16_t *x, size_t n)
{
    int64_t sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += magnitude(x[k]);
    return sum;
}

/* Makes sum |x| at most `most`, and just that where it was more. */
static void fit(int16_t *x, size_t n, int64_t most)
{
    int64_t sum = sum_of(x, n), left = most;
    if (sum <= most)
        return;
    for (size_t k = 0; k < n; k++) {
        int64_t shrunk = x[k] * most / sum;
        left -= magnitude(shrunk);
        x[k] = (int16_t)(shrunk + (x[k] > 0 ? 1 : x[k] < 0 ? -1 : 0));
    }
    /* All but 0 are one too large now; so they stay as long as something is left. */
    for (size_t k = 0; k < n; k++)
        if (x[k] != 0 && left-- <= 0)
            x[k] = (int16_t)(x[k] + (x[k] > 0 ? -1 : 1));
}

/* Numbers within +-room[k % n]. */
static int32_t *draw_within(Input *input, const int64_t *room, size_t n, size_t count)
{
    Draw draw = draw_of(input);
    int32_t *out = allocate(count, sizeof *out);
    for (size_t k = 0; k < count; k++)
        out[k] = (int32_t)draw_one(&draw, -room[k % n], room[k % n]);
    return out;
}

/* What |rq(sum, factor)| can reach, for sums below `limit`. */
static int64_t result_max(int64_t limit, int32_t factor)
{
    return (limit * magnitude(factor) >> 32) + 1;
}

/* A layer of so many inputs and outputs, the rest zeros. `biases` numbers of bias for each output,
 * so that sum |weight| xmax + |bias| < limit. Offsets leave `spare` in 32 bits. */
static SlowLayer draw_layer(Input *input, size_t inputs, size_t outputs, size_t taps, int64_t most,
                            int64_t xmax, int64_t limit, size_t biases, int64_t spare)
{
    SlowLayer layer = {.inputs = FILLED(inputs), .outputs = FILLED(outputs), .taps = taps};
    size_t n = layer.inputs * taps, o, k;
    int64_t *room = allocate(layer.outputs, sizeof *room);
    layer.weight = allocate(layer.outputs * n, sizeof *layer.weight);
    memset(layer.weight, 0, layer.outputs * n * sizeof *layer.weight);
    Draw draw = draw_of(input);
    for (o = 0; o < layer.outputs; o++) {
        int16_t *weight = layer.weight + o * n;
        for (k = 0; k < inputs * taps && o < outputs; k++)
            weight[k] = (int16_t)draw_one(&draw, -most, most);
        fit(weight, n, (limit - 1) / xmax);
        room[o] = limit - 1 - xmax * sum_of(weight, n);
    }
    layer.bias = draw_within(input, room, layer.outputs, biases * layer.outputs);
    layer.factor = draw_ints(input, layer.outputs, INT32_MIN, INT32_MAX);
    for (o = 0; o < layer.outputs; o++)
        room[o] = INT32_MAX - spare - result_max(limit - 1, layer.factor[o]);
    layer.offset = draw_within(input, room, layer.outputs, layer.outputs);
    return layer;
}

/* ---- what C is given ---- */

/* Blocks of weights; the weight of output o and input i is at o * to_output + i * to_input. */
static int16_t *blocks_of(const int16_t *weight, size_t outputs, size_t inputs, size_t to_output,
                          size_t to_input)
{
    size_t even = (inputs + 1) / 2 * 2;
    int16_t *out = allocate(FILLED(outputs) * even, sizeof *out);
    for (size_t o = 0; o < FILLED(outputs); o++)
        for (size_t i = 0; i < even; i++)
            out[((o / LANES * even / 2 + i / 2) * LANES + o % LANES) * 2 + i % 2] =
                o < outputs && i < inputs ? weight[o * to_output + i * to_input] : (int16_t)0;
    return out;
}

static SynthLayer layer_of(const SlowLayer *slow, const int16_t *blocks)
{
    SynthLayer layer = {.inputs = slow->inputs,
                        .groups = slow->outputs / LANES,
                        .weight = blocks,
                        .bias = slow->bias,
                        .factor = slow->factor,
                        .offset = slow->offset};
    return layer;
}

static SynthLayer dense_of(const SlowLayer *slow)
{
    return layer_of(slow, blocks_of(slow->weight, slow->outputs, slow->inputs, slow->inputs, 1));
}

/* A 3x3 layer, of `inputs` and `outputs` that exist. */
static SynthLayer conv_of(const SlowLayer *slow, size_t outputs, size_t inputs)
{
    int16_t *compact = allocate(outputs * inputs * 9, sizeof *compact);
    for (size_t o = 0; o < outputs; o++)
        memcpy(compact + o * inputs * 9, slow->weight + o * slow->inputs * 9,
               inputs * 9 * sizeof *compact);
    int16_t *blocks = allocate(slow->outputs * 16 * slow->inputs, sizeof *blocks);
    synth_conv_weights(compact, outputs, inputs, slow->inputs, blocks);
    return layer_of(slow, blocks);
}

/* A function under test, for ranges of its rows. Each uses what it needs of the rest. */
typedef struct Task Task;
struct Task {
    void (*run)(const Task *task, SynthPath path, size_t first, size_t count);
    size_t rows, step, w; /* ranges are multiples of `step` rows of w positions */
    size_t planes;
    const int16_t *in;
    const int32_t *in_planes;
    const uint8_t *modes;
    SynthRotation rotation;
    SynthLinear linear;
    SynthLayer layer, inject;
    SynthSamples samples;
    const int32_t *spread;
    int shift;
    int32_t top;
    size_t columns; /* of planes that become samples, w of them */
    void *result;
    const void *expected;
    size_t bytes; /* of each */
    size_t edges[4], scratch_at;
};

/* Scratch of the exact size. Its alignment and what it holds differ from call to call. */
static void *scratch_of(const Task *task, size_t bytes)
{
    static const uint8_t fills[] = {0, 0xFF, 0x7F, 0x80};
    size_t at = (task->scratch_at + held_count) % 16 * sizeof(int32_t);
    uint8_t *memory = allocate(at + bytes, 1);
    memset(memory, fills[held_count / 2 % sizeof fills], at + bytes);
    return memory + at;
}

/* `count` rows from `first` on of planes of `all` rows. */
static SynthPlanes cut_planes(const int32_t *planes, size_t count, size_t columns, size_t all,
                              size_t first, size_t rows)
{
    SynthPlanes out = {
        .at = cut(planes, sizeof *planes, count, all * columns, first * columns, rows * columns),
        .planes = count,
        .pitch = rows * columns + GAP,
        .columns = columns};
    return out;
}

static void put_planes_back(const SynthPlanes *from, int32_t *planes, size_t all, size_t first,
                            size_t rows)
{
    put_back(from->at, planes, sizeof *planes, from->planes, all * from->columns,
             first * from->columns, rows * from->columns);
}

/* Rows of a map and those around them. */
static int16_t *cut_map(const int16_t *map, size_t w, size_t stride, size_t first, size_t rows)
{
    size_t row = (w + 2) * stride;
    return cut(map, sizeof *map, 1, 0, first * row, (rows + 2) * row);
}

static void put_map_back(const int16_t *from, int16_t *map, size_t w, size_t stride, size_t first,
                         size_t rows)
{
    size_t row = (w + 2) * stride;
    put_back(from, map, sizeof *map, 1, 0, first * row, (rows + 2) * row);
}

/* Runs a function in every way. `result` holds what was there before. */
static void check(Task *task, Input *input)
{
    size_t steps = task->rows / task->step + 1;
    size_t a = take(input) % steps * task->step, b = take(input) % steps * task->step;
    void *before = cut(task->result, 1, 1, 0, 0, task->bytes);
    task->edges[1] = a < b ? a : b;
    task->edges[2] = a < b ? b : a;
    task->edges[3] = task->rows;
    task->scratch_at = take(input);
    for (int path = 0; path < SYNTH_PATHS; path++) {
        if (!synth_path_usable((SynthPath)path))
            continue;
        for (int ranges = 0; ranges < 2; ranges++) {
            memcpy(task->result, before, task->bytes);
            if (ranges == 0)
                task->run(task, (SynthPath)path, 0, task->rows);
            for (size_t k = 0; k < 3 && ranges; k++)
                if (task->edges[k] != task->edges[k + 1])
                    task->run(task, (SynthPath)path, task->edges[k],
                              task->edges[k + 1] - task->edges[k]);
            REQUIRE(memcmp(task->result, task->expected, task->bytes) == 0);
        }
    }
}

/* Results that are numbers of `size` bytes: `expected` starts as a copy of `result`. */
static void *expect(Task *task, void *result, size_t count, size_t size)
{
    task->result = result;
    task->bytes = count * size;
    void *expected = cut(result, size, 1, 0, 0, count);
    task->expected = expected;
    return expected;
}

/* ---- the functions ---- */

static void run_rotate(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t y_pitch = 256 + task->rotation.chroma, x_pitch = 256 * task->planes;
    int16_t *y = cut(task->in, sizeof *y, 1, 0, first * y_pitch, count * y_pitch);
    uint8_t *modes = cut(task->modes, 1, 1, 0, first, count);
    int16_t *x = cut(task->result, sizeof *x, 1, 0, first * x_pitch, count * x_pitch);
    synth_rotate(&task->rotation, path, y, modes, count, x,
                 scratch_of(task, synth_rotate_scratch()));
    put_back(x, task->result, sizeof *x, 1, 0, first * x_pitch, count * x_pitch);
}

static void fuzz_rotate(Input *input)
{
    size_t n = 1 + take(input) % 64, chroma = take_two(input) % 513;
    n = chroma > 64 ? 1 + n % 8 : n;
    Task task = {.run = run_rotate, .rows = n, .step = 1, .planes = chroma == 0 ? 1 : 3};
    size_t near_luma = take_two(input) % 257, near_chroma = take_two(input) % (chroma + 1);
    unsigned fitting = take(input) % 3; /* 1: sums fit 32 bits, 2: they just may not */
    const size_t matrix = (size_t)256 * 256;
    /* The matrix of a mode is that of the mode before, one row down: so few numbers are quick. */
    int16_t *drawn = draw_shorts(input, (size_t)(256 + 7) * 256, -(1 << 14), 1 << 14);
    int16_t *luma = allocate(8 * matrix, sizeof *luma);
    for (size_t mode = 0; mode < 8; mode++)
        memcpy(luma + mode * matrix, drawn + mode * 256, matrix * sizeof *luma);
    int16_t *of_chroma = draw_shorts(input, chroma * 512, -(1 << 14), 1 << 14);
    int16_t *y = draw_shorts(input, n * (256 + chroma), INT16_MIN, INT16_MAX);
    if (fitting != 0)
        for (size_t site = 0; site < n; site++)
            fit(y + site * (256 + chroma), 256 + chroma, (1 << 17) - 2 + (int)fitting);
    uint8_t *modes = draw_modes(input, n);
    int16_t *luma_blocks = allocate(8 * matrix, sizeof *luma_blocks);
    for (size_t mode = 0; mode < 8; mode++)
        memcpy(luma_blocks + mode * matrix, blocks_of(luma + mode * matrix, 256, 256, 1, 256),
               matrix * sizeof *luma);
    task.in = y;
    task.modes = modes;
    task.rotation = (SynthRotation){.near_luma = near_luma,
                                    .near_chroma = near_chroma,
                                    .chroma = chroma,
                                    .luma = luma_blocks,
                                    .of_chroma = blocks_of(of_chroma, 512, chroma, 1, 512)};
    size_t count = n * 256 * task.planes;
    int16_t *expected = expect(&task, allocate(count, sizeof *expected), count, sizeof *expected);
    slow_rotate(luma, of_chroma, near_luma, near_chroma, chroma, y, modes, n, expected);
    check(&task, input);
}

static void run_linear_rows(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t x_row = task->w * 256 * task->planes, row = 16 * 16 * task->w;
    int16_t *x = cut(task->in, sizeof *x, 1, 0, first * x_row, count * x_row);
    int16_t *out =
        cut(task->result, sizeof *out, task->planes, task->rows * row, first * row, count * row);
    synth_linear_rows(&task->linear, path, x, task->planes, task->w, count, out, count * row + GAP,
                      scratch_of(task, synth_linear_rows_scratch(task->w)));
    put_back(out, task->result, sizeof *out, task->planes, task->rows * row, first * row,
             count * row);
}

/* Ranges are of borders between rows of blocks, the first and the last row of blocks among them. */
static void run_linear_columns(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t columns = 16 * task->w, height = 16 * (task->rows - 1);
    for (size_t border = first; border < first + count; border++) {
        int edge = border == 0 || border == task->rows - 1;
        size_t start = border == 0 ? 0 : 16 * border - 8, n = edge ? 8 : 16;
        int16_t *rows = cut(task->in, sizeof *rows, task->planes, height * columns, start * columns,
                            n * columns);
        SynthPlanes out = cut_planes(task->result, task->planes, columns, height, start, n);
        if (edge)
            synth_linear_edge(rows, n * columns + GAP, &out, n);
        else
            synth_linear_columns(&task->linear, path, rows, n * columns + GAP, &out,
                                 scratch_of(task, synth_linear_columns_scratch()));
        put_planes_back(&out, task->result, height, start, n);
    }
}

/* Int16 [16][16] with sums of rows, or of columns, below 2^16. */
static int16_t *draw_matrix(Input *input)
{
    int16_t *out = draw_shorts(input, 256, INT16_MIN, INT16_MAX);
    for (size_t i = 0; i < 16; i++)
        fit(out + 16 * i, 16, (1 << 16) - 1);
    return out;
}

/* A matrix [16][16] as one of SYNTH_POSITIONS rows. */
static int16_t *rows_of(const int16_t *matrix)
{
    int16_t *out = allocate((size_t)SYNTH_POSITIONS * 16, sizeof *out);
    memset(out, 0, (size_t)SYNTH_POSITIONS * 16 * sizeof *out);
    memcpy(out, matrix, 256 * sizeof *out);
    return out;
}

static void fuzz_linear(Input *input, int columns)
{
    size_t w = 1 + take(input) % (columns ? 5 : 28), h = 1 + take(input) % 3;
    Task task = {.run = columns ? run_linear_columns : run_linear_rows,
                 .rows = columns ? h + 1 : h,
                 .step = 1,
                 .w = w,
                 .planes = take(input) % 2 ? 3 : 1};
    size_t count = task.planes * 256 * h * w;
    int16_t *a_transposed = draw_matrix(input), *b = draw_matrix(input);
    int16_t *x = draw_shorts(input, count, INT16_MIN, INT16_MAX);
    task.in = x;
    task.linear = (SynthLinear){.dct_block = blocks_of(a_transposed, 16, 16, 16, 1),
                                .dct_rows = rows_of(a_transposed),
                                .borders_block = blocks_of(b, 16, 16, 16, 1),
                                .borders_rows = rows_of(b)};
    if (columns) {
        int32_t *out = expect(&task, allocate(count, sizeof *out), count, sizeof *out);
        slow_linear_columns(b, x, task.planes, h, 16 * w, out);
    } else {
        int16_t a[256], *plain = allocate(count, sizeof *plain);
        for (size_t k = 0; k < 256; k++)
            a[k] = a_transposed[k % 16 * 16 + k / 16];
        int16_t *out = expect(&task, allocate(count, sizeof *out), count, sizeof *out);
        slow_linear_rows(a, b, x, task.planes, h, w, plain, out);
    }
    check(&task, input);
}

static void run_enter16(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t w = task->w, inputs = task->layer.inputs, stride = task->layer.groups * LANES;
    int16_t *x = cut(task->in, sizeof *x, 1, 0, first * w * inputs, count * w * inputs);
    uint8_t *modes = cut(task->modes, 1, 1, 0, first * w, count * w);
    int16_t *out = cut_map(task->result, w, stride, first, count);
    synth_enter16(&task->layer, path, task->spread, x, modes, w, count, out,
                  scratch_of(task, synth_dense_scratch(inputs)));
    put_map_back(out, task->result, w, stride, first, count);
}

static void fuzz_enter16(Input *input)
{
    size_t h = 1 + take(input) % 6, w = 1 + take(input) % 20;
    size_t inputs = LANES * (1 + take(input) % 6), outputs = 1 + take(input) % 64;
    Task task = {.run = run_enter16, .rows = h, .step = 1, .w = w};
    SlowLayer slow = draw_layer(input, inputs, outputs, 1, INT16_MAX, 8191, (int64_t)1 << 31, 8, 0);
    task.layer = dense_of(&slow);
    task.spread = draw_ints(input, inputs, INT32_MIN, INT32_MAX);
    task.in = draw_shorts(input, h * w * inputs, INT16_MIN, INT16_MAX);
    task.modes = draw_modes(input, h * w);
    size_t count = (h + 2) * (w + 2) * slow.outputs;
    int16_t *out = expect(&task, allocate(count, sizeof *out), count, sizeof *out);
    slow_enter16(&slow, task.spread, task.in, task.modes, h, w, out);
    check(&task, input);
}

/* To planes where there are some, to a map that is added to where there is no `top`. */
static void run_conv(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t w = task->w, stride = task->layer.groups * LANES;
    int16_t *in = cut_map(task->in, w, task->layer.inputs, first, count);
    void *scratch = scratch_of(task, synth_conv_scratch(task->layer.inputs));
    if (task->planes != 0) {
        SynthPlanes out =
            cut_planes(task->result, task->planes, 2 * w, 2 * task->rows, 2 * first, 2 * count);
        synth_conv_leave(&task->layer, path, in, task->shift, w, count, &out, scratch);
        put_planes_back(&out, task->result, 2 * task->rows, 2 * first, 2 * count);
        return;
    }
    int16_t *out = cut_map(task->result, w, stride, first, count);
    if (task->top < 0)
        synth_conv_add(&task->layer, path, in, task->shift, w, count, out, scratch);
    else
        synth_conv_relu(&task->layer, path, in, task->shift, task->top, w, count, out, scratch);
    put_map_back(out, task->result, w, stride, first, count);
}

typedef enum { RELU, ADD, LEAVE } ConvKind;

static void fuzz_conv(Input *input, ConvKind kind)
{
    static const int shifts[] = {0, 2, 3}, xmax[] = {8191, 8192, 4096};
    size_t h = 2 + 2 * (take(input) % 5), w = 2 + 2 * (take(input) % 12);
    size_t inputs = 1 + take(input), outputs = 1 + take(input) % 64, which = take(input) % 3;
    /* Some layers have more tiles than are taken at once. */
    int many = inputs > 240;
    inputs = many ? 224 : 1 + inputs % 48;
    outputs = many ? 1 + outputs % 32 : outputs;
    w = many ? 2 + (w - 2) % 12 : w;
    Task task = {.run = run_conv, .rows = h, .step = 2, .w = w, .top = -1};
    task.shift = shifts[which];
    if (kind == LEAVE) {
        task.planes = 1 + outputs % 4;
        outputs = 4 * task.planes;
    }
    if (kind == RELU)
        task.top = (int32_t)(take_two(input) % 32768);
    SlowLayer slow = draw_layer(input, inputs, outputs, 9, 3640, xmax[which], 1 << 29, 1, 0);
    task.layer = conv_of(&slow, outputs, inputs);
    task.in = which == 0 ? draw_map(input, h, w, inputs, -8191, 8191)
                         : draw_map(input, h, w, inputs, INT16_MIN, INT16_MAX);
    int32_t *scaled = allocate(h * w * slow.outputs, sizeof *scaled);
    slow_conv(&slow, task.in, task.shift, h, w, scaled);
    if (kind == LEAVE) {
        size_t count = task.planes * 4 * h * w;
        int32_t *planes = draw_ints(input, count, -(1 << 30), 1 << 30);
        int32_t *out = expect(&task, planes, count, sizeof *out);
        for (size_t k = 0; k < count; k++) {
            size_t c = k / (4 * h * w), y = k / (2 * w) % (2 * h), x = k % (2 * w);
            out[k] += scaled[(y / 2 * w + x / 2) * slow.outputs + 4 * c + y % 2 * 2 + x % 2];
        }
    } else {
        int16_t *map = draw_map(input, h, w, slow.outputs, INT16_MIN, INT16_MAX);
        int16_t *out = expect(&task, map, (h + 2) * (w + 2) * slow.outputs, sizeof *out);
        for (size_t k = 0; k < h * w * slow.outputs; k++) {
            size_t site = k / slow.outputs, o = k % slow.outputs;
            int16_t *at = out + slow_place(site / w, site % w, w, slow.outputs) + o;
            *at = kind == ADD
                      ? slow_int16((int64_t)*at + scaled[k])
                      : (int16_t)slow_clamp((int64_t)scaled[k] + slow.offset[o], 0, task.top);
        }
    }
    check(&task, input);
}

static void run_enter8(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t w = task->w, inputs = task->layer.inputs, stride = task->inject.groups * LANES;
    int16_t *in = cut_map(task->in, w, inputs, first, count);
    SynthPlanes planes =
        cut_planes(task->in_planes, task->planes, 16 * w, 16 * task->rows, 16 * first, 16 * count);
    int16_t *out = cut_map(task->result, 2 * w, stride, 2 * first, 2 * count);
    synth_enter8(&task->layer, &task->inject, path, in, &planes, w, count, out,
                 scratch_of(task, synth_enter8_scratch(inputs)));
    put_map_back(out, task->result, 2 * w, stride, 2 * first, 2 * count);
}

static void fuzz_enter8(Input *input)
{
    size_t h = 1 + take(input) % 4, w = 1 + take(input) % 16;
    size_t inputs = 1 + take(input) % 48, outputs = 1 + take(input) % 64;
    Task task = {
        .run = run_enter8, .rows = h, .step = 1, .w = w, .planes = take(input) % 2 ? 3 : 1};
    const int64_t limit = (int64_t)1 << 31;
    SlowLayer inject =
        draw_layer(input, 64 * task.planes, outputs, 1, INT16_MAX, 8192, limit, 1, 0);
    /* Results of both, and offsets, fit 32 bits together. */
    for (size_t o = 0; o < inject.outputs; o++)
        inject.factor[o] /= 2;
    SlowLayer up =
        draw_layer(input, inputs, 4 * inject.outputs, 1, INT16_MAX, 8192, limit, 1, 1 << 29);
    inject.bias = inject.offset = up.bias = NULL;
    task.layer = dense_of(&up);
    task.inject = dense_of(&inject);
    task.in = draw_map(input, h, w, inputs, INT16_MIN, INT16_MAX);
    task.in_planes = draw_ints(input, task.planes * 256 * h * w, -(1 << 30), 1 << 30);
    size_t count = (2 * h + 2) * (2 * w + 2) * inject.outputs;
    int16_t *out = expect(&task, allocate(count, sizeof *out), count, sizeof *out);
    slow_enter8(&up, &inject, task.in, task.in_planes, h, w, out);
    check(&task, input);
}

static void run_leave8(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t w = task->w, inputs = task->layer.inputs;
    int16_t *in = cut_map(task->in, w, inputs, first, count);
    SynthPlanes planes =
        cut_planes(task->result, task->planes, 8 * w, 8 * task->rows, 8 * first, 8 * count);
    synth_leave8(&task->layer, path, in, w, count, &planes,
                 scratch_of(task, synth_dense_scratch(inputs)));
    put_planes_back(&planes, task->result, 8 * task->rows, 8 * first, 8 * count);
}

static void fuzz_leave8(Input *input)
{
    size_t h = 1 + take(input) % 6, w = 1 + take(input) % 20, inputs = 1 + take(input) % 48;
    Task task = {
        .run = run_leave8, .rows = h, .step = 1, .w = w, .planes = take(input) % 2 ? 3 : 1};
    SlowLayer slow =
        draw_layer(input, inputs, 64 * task.planes, 1, INT16_MAX, 8192, (int64_t)1 << 31, 1, 0);
    slow.offset = NULL;
    task.layer = dense_of(&slow);
    task.in = draw_map(input, h, w, inputs, INT16_MIN, INT16_MAX);
    size_t count = task.planes * 64 * h * w;
    int32_t *planes = draw_ints(input, count, -(1 << 30) + 1, (1 << 30) - 1);
    slow_leave8(&slow, task.in, h, w, expect(&task, planes, count, sizeof *planes));
    check(&task, input);
}

static void run_quads(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t w = task->w, stride = FILLED(4 * task->planes);
    int above = first > 0, below = first + count < task->rows;
    size_t start = 2 * (first - (size_t)above), rows = 2 * (count + (size_t)above + (size_t)below);
    SynthPlanes planes =
        cut_planes(task->in_planes, task->planes, 2 * w, 2 * task->rows, start, rows);
    int16_t *out = cut_map(task->result, w, stride, first, count);
    planes.at += above ? 2 * planes.columns : 0;
    synth_quads(path, &planes, above, below, w, count, out, stride,
                scratch_of(task, synth_quads_scratch(w)));
    put_map_back(out, task->result, w, stride, first, count);
}

static void fuzz_quads(Input *input)
{
    size_t h = 1 + take(input) % 8, w = 1 + take(input) % 40;
    Task task = {.run = run_quads, .rows = h, .step = 1, .w = w, .planes = take(input) % 2 ? 3 : 1};
    size_t stride = FILLED(4 * task.planes), count = (h + 2) * (w + 2) * stride;
    task.in_planes = draw_ints(input, task.planes * 4 * h * w, -(1 << 24), 1 << 24);
    int16_t *out = expect(&task, allocate(count, sizeof *out), count, sizeof *out);
    slow_quads(task.in_planes, task.planes, h, w, out, stride);
    check(&task, input);
}

static void run_samples(const Task *task, SynthPath path, size_t first, size_t count)
{
    size_t size = (size_t)task->samples.bytes, row = task->w * task->planes;
    SynthPlanes planes =
        cut_planes(task->in_planes, task->planes, task->columns, task->rows, first, count);
    void *out = cut(task->result, size, 1, 0, first * row, count * row);
    synth_samples(&task->samples, path, &planes, task->w, count, out);
    put_back(out, task->result, size, 1, 0, first * row, count * row);
}

static void fuzz_samples(Input *input)
{
    size_t h = 1 + take(input) % 8, w = 1 + take(input) % 200;
    Task task = {
        .run = run_samples, .rows = h, .step = 1, .w = w, .planes = take(input) % 2 ? 3 : 1};
    int bytes = 1 << take(input) % 3;
    task.columns = w + take(input) % 8;
    Draw draw = draw_of(input);
    int32_t most = bytes == 1 ? UINT8_MAX : UINT16_MAX;
    task.samples.bytes = bytes;
    task.samples.levels = (int32_t)draw_one(&draw, 1, most);
    most -= task.samples.levels;
    task.samples.low = (int32_t)(bytes == 4 ? draw_one(&draw, INT32_MIN, INT32_MAX - UINT16_MAX)
                                            : draw_one(&draw, 0, most));
    Draw entries = draw_of(input);
    for (size_t k = 0; k < task.planes; k++) {
        int64_t room = (int64_t)1 << 31;
        for (size_t c = 0; c < task.planes; c++) {
            int64_t entry = draw_one(&entries, -room, room < INT32_MAX ? room : INT32_MAX);
            entry = c + 1 < task.planes ? entry / 2 : entry;
            task.samples.matrix[k][c] = (int32_t)entry;
            room -= magnitude(entry);
        }
    }
    task.in_planes = draw_ints(input, task.planes * h * task.columns, INT32_MIN, INT32_MAX);
    size_t count = h * w * task.planes;
    uint8_t *out = expect(&task, allocate(count, (size_t)bytes), count, (size_t)bytes);
    for (size_t k = 0; k < count; k++) {
        size_t site = k / task.planes;
        int64_t value =
            slow_sample(task.samples.matrix[k % task.planes],
                        task.in_planes + site / w * task.columns + site % w, h * task.columns,
                        task.planes, task.samples.low, task.samples.levels);
        uint16_t two = (uint16_t)value;
        int32_t four = (int32_t)value;
        if (bytes == 1)
            out[k] = (uint8_t)value;
        else if (bytes == 2)
            memcpy(out + 2 * k, &two, sizeof two);
        else
            memcpy(out + 4 * k, &four, sizeof four);
    }
    check(&task, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, size};
    switch (take(&input) % 11) {
    case 0: fuzz_rotate(&input); break;
    case 1: fuzz_linear(&input, 0); break;
    case 2: fuzz_linear(&input, 1); break;
    case 3: fuzz_enter16(&input); break;
    case 4: fuzz_conv(&input, RELU); break;
    case 5: fuzz_conv(&input, ADD); break;
    case 6: fuzz_conv(&input, LEAVE); break;
    case 7: fuzz_enter8(&input); break;
    case 8: fuzz_leave8(&input); break;
    case 9: fuzz_quads(&input); break;
    default: fuzz_samples(&input); break;
    }
    free_all();
    return 0;
}
