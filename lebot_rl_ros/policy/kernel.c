/* One observation through a multilayer perceptron, float32. kernel.py packs the weights and calls.
 *
 * The part below `template` is compiled once for each width of vectors: this file includes itself,
 * and kernel.py asks which is the widest that the machine runs. Vectors wider than the machine's,
 * or loops left to the compiler's own vectoriser, were 2 to 15 times slower.
 * Built without -ffast-math: a value that is not finite stays visible in the output, which is what
 * the policy node looks for. Sums have one order, so equal inputs give equal bits on one machine.
 */
#ifndef LANES
#include <stdint.h>

struct layer {
    intptr_t inputs, blocks;
    const float *weight; /* (blocks, inputs + 1, LANES); the last row of a block is its bias */
    float *output;       /* (blocks, LANES), the lanes past the last unit unused */
};

struct network {
    intptr_t layers, activation;
    const float *input;
    struct layer layer[];
};

enum { ELU, RELU, TANH }; /* the order of ACTIVATIONS in files.py */

/* Changes with the structs, so that kernel.py does not call a library built from other source. */
const int lebot_kernel_layout = 1;

#define JOIN(name, lanes) name##lanes
#define EXPAND(name, lanes) JOIN(name, lanes)
#define OF(name) EXPAND(name##_, LANES)
#define INLINE TARGET static inline __attribute__((always_inline))

#define LANES 4 /* SSE2, NEON */
#define TARGET
#include "kernel.c"
#ifdef __x86_64__
#undef LANES
#undef TARGET
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel.c"
#undef LANES
#undef TARGET
#define LANES 16
#define TARGET __attribute__((target("avx512f")))
#include "kernel.c"
#endif

/* Lanes of the widest variant that this machine runs. */
int lebot_kernel_lanes(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 8;
#endif
    return 4;
}

#else /* template */
typedef float OF(floats) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t OF(bits) __attribute__((vector_size(4 * LANES)));
#define floats OF(floats)
#define bits OF(bits)

/* e^x - 1 for x <= 0, within 1 unit in the last place; NaN stays NaN, -inf gives -1.
 * x = n ln 2 + r with |r| <= ln 2 / 2, so e^x - 1 = 2^n (e^r - 1) + (2^n - 1); e^r - 1 is Taylor's
 * series to r^7, whose rest, about r^8 / 8!, is below 2e-8 of it. */
INLINE floats OF(expm1_of_negative)(floats x)
{
    const floats least = (floats){0} - 87.0f; /* 2^n is not subnormal yet */
    const bits low = (bits)(x < least);
    x = (floats)(((bits)x & ~low) | ((bits)least & low));
    const float shifter = 0x1.8p23f; /* adding it rounds to a whole number, in the low bits */
    const floats shifted = x * 0x1.715476p+0f + shifter, n = shifted - shifter;
    /* ln 2 in two parts: n times the first is exact */
    const floats r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    floats p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    const floats power = (floats)(((bits)shifted << 23) + 0x3f800000u); /* 2^n */
    return power * p + (power - 1.0f);
}

/* By masks, so that NaN lands in the part that keeps it. */
INLINE floats OF(activate)(floats x, intptr_t activation)
{
    if (activation == TANH) { /* of |x|, from e^(-2 |x|) - 1; within 3 units in the last place */
        const bits sign = (bits)x & 0x80000000u;
        const floats e = OF(expm1_of_negative)((floats)((bits)x ^ sign) * -2.0f);
        return (floats)((bits)(-e / (2.0f + e)) | sign);
    }
    if (activation == RELU)
        return (floats)((bits)x & ~(bits)(x <= 0.0f));
    const bits positive = (bits)(x > 0.0f);
    return (floats)((bits)x & positive) + OF(expm1_of_negative)((floats)((bits)x & ~positive));
}

/* Outputs of all layers; those of the last are the network's. */
TARGET void OF(lebot_forward)(const struct network *network)
{
    const float *x = network->input;
    for (intptr_t k = 0; k < network->layers; ++k) {
        const struct layer *layer = &network->layer[k];
        const intptr_t inputs = layer->inputs;
        const floats *row = (const floats *)layer->weight;
        for (intptr_t block = 0; block < layer->blocks; ++block) {
            floats a = {0}, b = {0}, c = {0}, d = {0}; /* four, as an addition has a latency */
            intptr_t i = 0;
            for (; i + 4 <= inputs; i += 4, row += 4) {
                a += row[0] * x[i];
                b += row[1] * x[i + 1];
                c += row[2] * x[i + 2];
                d += row[3] * x[i + 3];
            }
            for (; i < inputs; ++i)
                a += *row++ * x[i];
            a = (a + b) + (c + d) + *row++;
            if (k < network->layers - 1)
                a = OF(activate)(a, network->activation);
            *(floats *)(layer->output + LANES * block) = a;
        }
        x = layer->output;
    }
}
#undef floats
#undef bits
#endif
