/* Fused operations for one processor core: rows in, rows out, one pass over memory where that is possible.
 *
 * The file is compiled once per floating-point type: REAL is float, or double with -DREAL_IS_DOUBLE. Loops
 * are written so that the compiler vectorises them. `omp simd` permits it to reorder the sums that it names,
 * and nothing else does, so NaN and infinity keep their meaning. Every function has a NumPy twin in
 * _fused_numpy.py, which is its specification. Arrays are contiguous unless strides are passed; counts and
 * strides are in elements.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef REAL_IS_DOUBLE
typedef double REAL;
#define R(x) x
#define SQRT sqrt
#define LOG log
#define EXP exp
#define ERF erf
#else
typedef float REAL;
#define R(x) x##f
#define SQRT sqrtf
#define LOG logf
#define EXP exp_float
#define ERF erf_float
#endif
typedef int64_t I;

#ifndef REAL_IS_DOUBLE
/* ---- exp and erf that vectorise: Cody and Waite's reduction, then polynomials by least squares ---- */

static inline float power_of_two(int32_t k) {
    union {
        uint32_t bits;
        float value;
    } u = {(uint32_t)(k + 127) << 23};
    return u.value;
}

/* Relative error below 2e-7; subnormal results and overflow as in the C library; NaN stays NaN. */
static inline float exp_float(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float k = rintf(x * 1.44269504f);
    float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
    float p = 0.0013751150f;
    p = p * r + 0.0083689876f;
    p = p * r + 0.0416695438f;
    p = p * r + 0.1666651815f;
    p = p * r + 0.4999998808f;
    p = p * r * r + r + 1.0f;
    int32_t whole = (int32_t)k, half = whole >> 1; /* two factors, since 2^128 is not a float */
    return p * power_of_two(half) * power_of_two(whole - half);
}

/* Absolute error below 2e-7: a polynomial in x^2 up to 1, from there 1 - exp(-polynomial). */
static inline float erf_float(float x) {
    float a = fabsf(x), s = x * x;
    a = a > 4.0f ? 4.0f : a;
    float small = 7.9334939e-5f;
    small = small * s - 0.00080348464f;
    small = small * s + 0.0051912186f;
    small = small * s - 0.0268553998f;
    small = small * s + 0.1128362566f;
    small = small * s - 0.3761262894f;
    small = small * s + 1.1283792257f;
    float t = a - 1.0f;
    float large = -0.00018771978f;
    large = large * t + 0.0018345051f;
    large = large * t - 0.0099026263f;
    large = large * t + 0.0415080861f;
    large = large * t + 0.8431162238f;
    large = large * t + 2.6389670372f;
    float tail = 1.0f - 0.1572992071f * exp_float(-large * t); /* erfc(1) = 0.1573 */
    return a < 1.0f ? x * small : copysignf(tail, x);
}

/* For compiled graphs. Up to 0.625 an odd polynomial by least squares, beyond by exp; relative error below 3e-7. */
static inline float tanh_float(float x) {
    float a = fabsf(x), s = x * x;
    float p = -0.00513874f;
    p = p * s + 0.02009161f;
    p = p * s - 0.05355845f;
    p = p * s + 0.13329098f;
    p = p * s - 0.33333188f;
    float e = exp_float(-2.0f * a);
    return a < 0.625f ? x + x * s * p : copysignf((1.0f - e) / (1.0f + e), x);
}
#endif

/* ---- a bias, and an activation after it ---- */

/* out = x + bias (+ residual, unless it is null); out may be x. */
void add_bias(REAL *out, const REAL *x, const REAL *bias, const REAL *residual, I rows, I cols) {
    for (I i = 0; i < rows; i++, out += cols, x += cols) {
        if (residual) {
            const REAL *r = residual + i * cols;
#pragma omp simd
            for (I j = 0; j < cols; j++) out[j] = x[j] + bias[j] + r[j];
        } else {
#pragma omp simd
            for (I j = 0; j < cols; j++) out[j] = x[j] + bias[j];
        }
    }
}

/* out (cols) = the sum of g over its rows: the gradient of a bias. */
void column_sum(REAL *out, const REAL *g, I rows, I cols) {
    memset(out, 0, cols * sizeof(REAL));
    for (I i = 0; i < rows; i++, g += cols) {
#pragma omp simd
        for (I j = 0; j < cols; j++) out[j] += g[j];
    }
}

void bias_relu_forward(REAL *out, const REAL *x, const REAL *bias, I rows, I cols) {
    for (I i = 0; i < rows; i++, out += cols, x += cols) {
#pragma omp simd
        for (I j = 0; j < cols; j++) {
            REAL z = x[j] + bias[j];
            out[j] = z < 0 ? 0 : z;
        }
    }
}

void bias_relu_backward(REAL *dx, REAL *dbias, const REAL *g, const REAL *out, I rows, I cols) {
    memset(dbias, 0, cols * sizeof(REAL));
    for (I i = 0; i < rows; i++, dx += cols, g += cols, out += cols) {
#pragma omp simd
        for (I j = 0; j < cols; j++) {
            REAL d = out[j] <= 0 ? 0 : g[j];
            dx[j] = d;
            dbias[j] += d;
        }
    }
}

/* Tanh form: 0.5 (1 + tanh u) is the logistic function of 2u, which needs one exp and keeps the tail's
 * digits. */
#define GELU_SLOPE R(0.79788456080286536)
#define GELU_CUBIC R(0.044715)

static inline REAL gelu_gate(REAL z) { return 1 / (1 + EXP(-2 * GELU_SLOPE * (z + GELU_CUBIC * z * z * z))); }

static inline REAL gelu_tanh_slope(REAL z) {
    REAL s = gelu_gate(z);
    return s + z * s * (1 - s) * 2 * GELU_SLOPE * (1 + 3 * GELU_CUBIC * z * z);
}

static inline REAL normal_cdf(REAL z) { return R(0.5) * (1 + ERF(z * R(0.70710678118654752))); }

static inline REAL gelu_slope(REAL z) {
    return normal_cdf(z) + z * R(0.39894228040143268) * EXP(R(-0.5) * z * z);
}

void bias_gelu_forward(REAL *out, const REAL *x, const REAL *bias, I rows, I cols, int tanh_form) {
    for (I i = 0; i < rows; i++, out += cols, x += cols) {
        if (tanh_form) {
#pragma omp simd
            for (I j = 0; j < cols; j++) {
                REAL z = x[j] + bias[j];
                out[j] = z * gelu_gate(z);
            }
        } else {
#pragma omp simd
            for (I j = 0; j < cols; j++) {
                REAL z = x[j] + bias[j];
                out[j] = z * normal_cdf(z);
            }
        }
    }
}

void bias_gelu_backward(REAL *dx, REAL *dbias, const REAL *g, const REAL *x, const REAL *bias, I rows, I cols,
                        int tanh_form) {
    memset(dbias, 0, cols * sizeof(REAL));
    for (I i = 0; i < rows; i++, dx += cols, g += cols, x += cols) {
        if (tanh_form) {
#pragma omp simd
            for (I j = 0; j < cols; j++) dx[j] = g[j] * gelu_tanh_slope(x[j] + bias[j]);
        } else {
#pragma omp simd
            for (I j = 0; j < cols; j++) dx[j] = g[j] * gelu_slope(x[j] + bias[j]);
        }
#pragma omp simd
        for (I j = 0; j < cols; j++) dbias[j] += dx[j];
    }
}

/* ---- normalisation over the last axis; what is saved is one or two numbers per row ---- */

void layer_norm_forward(REAL *out, REAL *mean, REAL *rstd, const REAL *x, const REAL *weight,
                        const REAL *bias, I rows, I cols, double eps) {
    for (I i = 0; i < rows; i++, out += cols, x += cols) {
        REAL sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (I j = 0; j < cols; j++) sum += x[j];
        REAL m = sum / cols;
#pragma omp simd reduction(+ : squares)
        for (I j = 0; j < cols; j++) squares += (x[j] - m) * (x[j] - m);
        REAL r = 1 / SQRT(squares / cols + (REAL)eps);
#pragma omp simd
        for (I j = 0; j < cols; j++) out[j] = (x[j] - m) * r * weight[j] + bias[j];
        mean[i] = m;
        rstd[i] = r;
    }
}

void layer_norm_backward(REAL *dx, REAL *dweight, REAL *dbias, const REAL *g, const REAL *x,
                         const REAL *weight, const REAL *mean, const REAL *rstd, I rows, I cols) {
    memset(dweight, 0, cols * sizeof(REAL));
    memset(dbias, 0, cols * sizeof(REAL));
    for (I i = 0; i < rows; i++, dx += cols, g += cols, x += cols) {
        REAL m = mean[i], r = rstd[i], sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
        for (I j = 0; j < cols; j++) {
            REAL normed = (x[j] - m) * r;
            sum += g[j] * weight[j];
            along += g[j] * weight[j] * normed;
            dweight[j] += g[j] * normed;
            dbias[j] += g[j];
        }
        sum /= cols;
        along /= cols;
#pragma omp simd
        for (I j = 0; j < cols; j++) dx[j] = r * (g[j] * weight[j] - sum - (x[j] - m) * r * along);
    }
}

void rms_norm_forward(REAL *out, REAL *rstd, const REAL *x, const REAL *weight, I rows, I cols, double eps) {
    for (I i = 0; i < rows; i++, out += cols, x += cols) {
        REAL squares = 0;
#pragma omp simd reduction(+ : squares)
        for (I j = 0; j < cols; j++) squares += x[j] * x[j];
        REAL r = 1 / SQRT(squares / cols + (REAL)eps);
#pragma omp simd
        for (I j = 0; j < cols; j++) out[j] = x[j] * r * weight[j];
        rstd[i] = r;
    }
}

void rms_norm_backward(REAL *dx, REAL *dweight, const REAL *g, const REAL *x, const REAL *weight,
                       const REAL *rstd, I rows, I cols) {
    memset(dweight, 0, cols * sizeof(REAL));
    for (I i = 0; i < rows; i++, dx += cols, g += cols, x += cols) {
        REAL r = rstd[i], along = 0;
#pragma omp simd reduction(+ : along)
        for (I j = 0; j < cols; j++) {
            REAL normed = x[j] * r;
            along += g[j] * weight[j] * normed;
            dweight[j] += g[j] * normed;
        }
        along /= cols;
#pragma omp simd
        for (I j = 0; j < cols; j++) dx[j] = r * (g[j] * weight[j] - x[j] * r * along);
    }
}

/* ---- softmax cross-entropy: the gradient falls out of the forward pass ---- */

/* loss (rows), gradient (rows, cols) = scale (softmax - one hot). A row whose target is `ignore` gives zeros.
 * Returns -1, or the first row whose target is no class. */
I cross_entropy(REAL *loss, REAL *gradient, const REAL *x, const I *target, I rows, I cols, I ignore,
                double scale) {
    for (I i = 0; i < rows; i++, gradient += cols, x += cols) {
        if (target[i] == ignore) {
            loss[i] = 0;
            memset(gradient, 0, cols * sizeof(REAL));
            continue;
        }
        if (target[i] < 0 || target[i] >= cols) return i;
        REAL top = x[0], sum = 0;
#pragma omp simd reduction(max : top)
        for (I j = 0; j < cols; j++) top = x[j] > top ? x[j] : top;
#pragma omp simd reduction(+ : sum)
        for (I j = 0; j < cols; j++) {
            REAL e = EXP(x[j] - top);
            gradient[j] = e;
            sum += e;
        }
        REAL share = (REAL)scale / sum;
#pragma omp simd
        for (I j = 0; j < cols; j++) gradient[j] *= share;
        loss[i] = LOG(sum) + (top - x[target[i]]);
        gradient[target[i]] -= (REAL)scale;
    }
    return -1;
}

/* table[index[i]] += g[i]: the gradient of an embedding. The caller has checked the indices. */
void scatter_add_rows(REAL *table, const I *index, const REAL *g, I rows, I cols) {
    for (I i = 0; i < rows; i++, g += cols) {
        REAL *row = table + index[i] * cols;
#pragma omp simd
        for (I j = 0; j < cols; j++) row[j] += g[j];
    }
}

/* ---- matrix product: a tile of the result stays in registers, a panel of b in the nearest cache ----
 *
 * After Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008), without packing a.
 */

#if defined(__AVX512F__)
#define VECTOR_BYTES 64 /* 32 registers: 12 rows by 2 vectors leave 8 for the operands */
#define TILE_ROWS 12
#elif defined(__AVX__)
#define VECTOR_BYTES 32 /* 16 registers */
#define TILE_ROWS 6
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#endif
#define LANES (VECTOR_BYTES / (I)sizeof(REAL))
#define TILE_COLS (2 * LANES)
#define PANEL_DEPTH 512
typedef REAL VECTOR __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

static inline __attribute__((always_inline)) void tile(const int rows, I depth, const REAL *a, I a_row,
                                                       I a_col, const REAL *b, I b_row, REAL *c, I c_row,
                                                       int add) {
    VECTOR left[TILE_ROWS] = {0}, right[TILE_ROWS] = {0};
    for (I k = 0; k < depth; k++, a += a_col, b += b_row) {
        const VECTOR b0 = *(const VECTOR *)b, b1 = *(const VECTOR *)(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            left[i] += a[i * a_row] * b0;
            right[i] += a[i * a_row] * b1;
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++, c += c_row) {
        VECTOR *c0 = (VECTOR *)c, *c1 = (VECTOR *)(c + LANES);
        if (add) left[i] += *c0, right[i] += *c1;
        *c0 = left[i];
        *c1 = right[i];
    }
}

/* c (m, TILE_COLS) = a b, or c += a b. An element of a lies at a[i * a_row + k * a_col]. */
static void column_of_tiles(I m, I depth, const REAL *a, I a_row, I a_col, const REAL *b, I b_row, REAL *c,
                            I c_row, int add) {
    I i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS)
        tile(TILE_ROWS, depth, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
    for (; i + 4 <= m; i += 4)
        tile(4, depth, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
    for (; i < m; i++) tile(1, depth, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
}

/* A panel of b with its rows side by side, filled up with zeros to TILE_COLS columns. */
static void pack(REAL *panel, const REAL *b, I b_row, I b_col, I depth, I cols) {
    if (cols < TILE_COLS) memset(panel, 0, depth * TILE_COLS * sizeof(REAL));
    for (I first = 0; first < depth; first += 16) { /* 16 rows at a time, since b may be a transpose */
        I last = first + 16 < depth ? first + 16 : depth;
        if (b_col == 1)
            for (I k = first; k < last; k++)
                memcpy(panel + k * TILE_COLS, b + k * b_row, cols * sizeof(REAL));
        else
            for (I j = 0; j < cols; j++)
                for (I k = first; k < last; k++) panel[k * TILE_COLS + j] = b[k * b_row + j * b_col];
    }
}

/* Copy or add a column of tiles to where it belongs: the last columns, or a result that lies transposed. */
static void place(const REAL *tiles, REAL *out, I row, I col, I m, I cols, int add) {
    if (row < col) {
        for (I j = 0; j < cols; j++)
            for (I i = 0; i < m; i++) {
                REAL before = add ? out[i * row + j * col] : 0;
                out[i * row + j * col] = before + tiles[i * TILE_COLS + j];
            }
    } else {
        for (I i = 0; i < m; i++)
            for (I j = 0; j < cols; j++) {
                REAL before = add ? out[i * row + j * col] : 0;
                out[i * row + j * col] = before + tiles[i * TILE_COLS + j];
            }
    }
}

/* out (m, n) = a (m, depth) b (depth, n) per batch, all of any strides. scratch: (PANEL_DEPTH + m) *
 * TILE_COLS. */
void matrix_product(REAL *out, const REAL *a, const REAL *b, REAL *scratch, I batch, I m, I n, I depth,
                    I a_batch, I a_row, I a_col, I b_batch, I b_row, I b_col, I c_batch, I c_row, I c_col) {
    REAL *panel = scratch, *tiles = scratch + PANEL_DEPTH * TILE_COLS;
    for (; batch > 0; batch--, a += a_batch, b += b_batch, out += c_batch)
        for (I k = 0; k < depth; k += PANEL_DEPTH) {
            I deep = depth - k < PANEL_DEPTH ? depth - k : PANEL_DEPTH;
            for (I j = 0; j < n; j += TILE_COLS) {
                I cols = n - j < TILE_COLS ? n - j : TILE_COLS;
                int direct = cols == TILE_COLS && c_col == 1;
                pack(panel, b + k * b_row + j * b_col, b_row, b_col, deep, cols);
                column_of_tiles(m, deep, a + k * a_col, a_row, a_col, panel, TILE_COLS,
                                direct ? out + j : tiles, direct ? c_row : TILE_COLS, direct && k > 0);
                if (!direct) place(tiles, out + j * c_col, c_row, c_col, m, cols, k > 0);
            }
        }
}

/* ---- attention: blocks of query rows against the keys that they may see; saved is one number per row ----
 */

#define BLOCK 32 /* query rows at a time */

/* c (m, n) = a b, or c += a b, for products too small to pack b: its rows are contiguous, as are c's. */
static void multiply(I m, I n, I depth, const REAL *a, I a_row, I a_col, const REAL *b, I b_row, REAL *c,
                     I c_row, int add) {
    I j = 0;
    for (; j + TILE_COLS <= n; j += TILE_COLS)
        column_of_tiles(m, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
    for (I i = 0; i < m && j < n; i++) {
        REAL *row = c + i * c_row;
        if (!add) memset(row + j, 0, (n - j) * sizeof(REAL));
        for (I k = 0; k < depth; k++) {
            const REAL left = a[i * a_row + k * a_col], *right = b + k * b_row;
#pragma omp simd
            for (I jj = j; jj < n; jj++) row[jj] += left * right[jj];
        }
    }
}

static void transpose(REAL *out, I out_row, const REAL *x, I x_row, I rows, I cols) {
    for (I i = 0; i < rows; i++)
        for (I j = 0; j < cols; j++) out[j * out_row + i] = x[i * x_row + j];
}

/* batch, heads, heads of k and v, queries, keys, features of q and k, features of v, and how many keys before
 * its own place a query sees in addition (-1: no mask). */
typedef struct {
    I batch, heads, shared_heads, queries, keys, features, values, offset;
} Attention;

/* Strides of one array over (batch, head, position). */
typedef struct {
    I batch, head, row;
} Strides;

static inline I at(const Strides *s, I b, I h, I row) { return b * s->batch + h * s->head + row * s->row; }

/* Keys that rows [first, last) may see together, and that row i may see. */
static inline I visible(const Attention *n, I last) {
    I limit = last + n->offset;
    return n->offset < 0 || limit > n->keys ? n->keys : limit;
}

/* out = softmax(scale q k^T) v; log_sum (batch, heads, queries) is what backward needs to make the weights
 * again. scratch: features * keys + BLOCK * keys. strides: q, k, v, out. */
void attention_forward(REAL *out, REAL *log_sum, const REAL *q, const REAL *k, const REAL *v, REAL *scratch,
                       const Attention *n, const Strides *st, double scale) {
    REAL *kt = scratch, *weights = scratch + n->features * n->keys;
    I group = n->heads / n->shared_heads;
    for (I b = 0; b < n->batch; b++)
        for (I h = 0; h < n->heads; h++) {
            if (h % group == 0)
                transpose(kt, n->keys, k + at(st + 1, b, h / group, 0), st[1].row, n->keys, n->features);
            for (I first = 0; first < n->queries; first += BLOCK) {
                I last = first + BLOCK < n->queries ? first + BLOCK : n->queries, width = visible(n, last);
                multiply(last - first, width, n->features, q + at(st, b, h, first), st->row, 1, kt, n->keys,
                         weights, width, 0);
                for (I i = first; i < last; i++) {
                    REAL *w = weights + (i - first) * width, top = w[0] * (REAL)scale, sum = 0;
                    I seen = visible(n, i + 1);
#pragma omp simd reduction(max : top)
                    for (I j = 0; j < seen; j++) {
                        w[j] *= (REAL)scale;
                        top = w[j] > top ? w[j] : top;
                    }
#pragma omp simd reduction(+ : sum)
                    for (I j = 0; j < seen; j++) {
                        REAL e = EXP(w[j] - top);
                        w[j] = e;
                        sum += e;
                    }
                    REAL share = 1 / sum;
#pragma omp simd
                    for (I j = 0; j < seen; j++) w[j] *= share;
                    memset(w + seen, 0, (width - seen) * sizeof(REAL));
                    log_sum[(b * n->heads + h) * n->queries + i] = top + LOG(sum);
                }
                multiply(last - first, n->values, width, weights, width, 1, v + at(st + 2, b, h / group, 0),
                         st[2].row, out + at(st + 3, b, h, first), st[3].row, 0);
            }
        }
}

/* dq, dk, dv are added to, so they start as zeros. scratch: (features + values) * keys + 2 * BLOCK * keys.
 * strides: q, k, v, out, gradient, dq, dk, dv. */
void attention_backward(REAL *dq, REAL *dk, REAL *dv, const REAL *gradient, const REAL *q, const REAL *k,
                        const REAL *v, const REAL *out, const REAL *log_sum, REAL *scratch,
                        const Attention *n, const Strides *st, double scale) {
    REAL *kt = scratch, *vt = kt + n->features * n->keys, *weights = vt + n->values * n->keys;
    REAL *slopes = weights + BLOCK * n->keys;
    I group = n->heads / n->shared_heads;
    for (I b = 0; b < n->batch; b++)
        for (I h = 0; h < n->heads; h++) {
            I hs = h / group;
            const REAL *keys = k + at(st + 1, b, hs, 0), *values = v + at(st + 2, b, hs, 0);
            if (h % group == 0) {
                transpose(kt, n->keys, keys, st[1].row, n->keys, n->features);
                transpose(vt, n->keys, values, st[2].row, n->keys, n->values);
            }
            for (I first = 0; first < n->queries; first += BLOCK) {
                I last = first + BLOCK < n->queries ? first + BLOCK : n->queries, width = visible(n, last);
                I rows = last - first;
                const REAL *queries = q + at(st, b, h, first), *g = gradient + at(st + 4, b, h, first);
                multiply(rows, width, n->features, queries, st->row, 1, kt, n->keys, weights, width, 0);
                multiply(rows, width, n->values, g, st[4].row, 1, vt, n->keys, slopes, width, 0);
                for (I i = 0; i < rows; i++) {
                    REAL *w = weights + i * width, *s = slopes + i * width, along = 0;
                    REAL log_s = log_sum[(b * n->heads + h) * n->queries + first + i];
                    const REAL *o = out + at(st + 3, b, h, first + i), *gi = g + i * st[4].row;
                    I seen = visible(n, first + i + 1);
#pragma omp simd reduction(+ : along)
                    for (I j = 0; j < n->values; j++) along += o[j] * gi[j];
#pragma omp simd
                    for (I j = 0; j < seen; j++) {
                        REAL e = EXP(w[j] * (REAL)scale - log_s);
                        w[j] = e;
                        s[j] = e * (s[j] - along) * (REAL)scale;
                    }
                    memset(w + seen, 0, (width - seen) * sizeof(REAL));
                    memset(s + seen, 0, (width - seen) * sizeof(REAL));
                }
                multiply(rows, n->features, width, slopes, width, 1, keys, st[1].row,
                         dq + at(st + 5, b, h, first), st[5].row, 1);
                multiply(width, n->features, rows, slopes, 1, width, queries, st->row,
                         dk + at(st + 6, b, hs, 0), st[6].row, 1);
                multiply(width, n->values, rows, weights, 1, width, g, st[4].row, dv + at(st + 7, b, hs, 0),
                         st[7].row, 1);
            }
        }
}

/* ---- one optimiser step over a flat arena ---- */

void sgd(REAL *p, const REAL *g, REAL *velocity, I n, double lr, double momentum, double dampening,
         double decay, int nesterov, int first) {
    REAL rate = lr, mu = momentum, fresh = first ? 1 : 1 - dampening, kept = first ? 0 : momentum, wd = decay;
    if (!velocity) {
#pragma omp simd
        for (I i = 0; i < n; i++) p[i] -= rate * (g[i] + wd * p[i]);
        return;
    }
    for (I i = 0; i < n; i++) {
        REAL d = g[i] + wd * p[i], v = kept * velocity[i] + fresh * d;
        velocity[i] = v;
        p[i] -= rate * (nesterov ? d + mu * v : v);
    }
}

/* correction1 = 1 - beta1^t, correction2 = 1 - beta2^t. Decoupled decay is AdamW's. */
void adam(REAL *p, const REAL *g, REAL *m, REAL *v, I n, double lr, double beta1, double beta2, double eps,
          double decay, int decoupled, double correction1, double correction2) {
    REAL b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2, e = eps;
    REAL step = lr / correction1, root = 1 / sqrt(correction2);
    REAL shrink = decoupled ? 1 - lr * decay : 1, wd = decoupled ? 0 : decay;
#pragma omp simd
    for (I i = 0; i < n; i++) {
        REAL d = g[i] + wd * p[i];
        REAL first = b1 * m[i] + c1 * d, second = b2 * v[i] + c2 * d * d;
        m[i] = first;
        v[i] = second;
        p[i] = shrink * p[i] - step * first / (SQRT(second) * root + e);
    }
}
