// The transpose of a matrix: reads and writes cannot both go along the rows, unless a tile turns in shared memory.
// A block of 32 x 8 threads moves a tile of 32 x 32; y is (columns, rows), x is (rows, columns).

constexpr int TILE = 32, STEP = 8;

// Reads go along a row of x, so writes go down a column of y: each lane of a store has its own sector.
extern "C" __global__ void transpose_naive(const float* x, float* y, int rows, int columns) {
    int column = blockIdx.x * TILE + threadIdx.x;
    for (int i = threadIdx.y; i < TILE; i += STEP) {
        int row = blockIdx.y * TILE + i;
        if (row < rows && column < columns) y[column * rows + row] = x[row * columns + column];
    }
}

// The tile is written by rows and read by columns in shared memory, which has no sectors but 32 banks.
template <int WIDTH>
__device__ void through_tile(float (*tile)[WIDTH], const float* x, float* y, int rows, int columns) {
    int column = blockIdx.x * TILE + threadIdx.x;
    for (int i = threadIdx.y; i < TILE; i += STEP) {
        int row = blockIdx.y * TILE + i;
        if (row < rows && column < columns) tile[i][threadIdx.x] = x[row * columns + column];
    }
    __syncthreads();  // a thread writes what others have read
    int row = blockIdx.y * TILE + threadIdx.x;
    for (int i = threadIdx.y; i < TILE; i += STEP) {
        column = blockIdx.x * TILE + i;
        if (row < rows && column < columns) y[column * rows + row] = tile[threadIdx.x][i];
    }
}

// A column of a tile 32 words wide lies in one bank: 32 lanes wait for each other.
extern "C" __global__ void transpose_tiled(const float* x, float* y, int rows, int columns) {
    __shared__ float tile[TILE][TILE];
    through_tile(tile, x, y, rows, columns);
}

// One word more per row moves each row on by a bank: a column now lies in 32 banks.
extern "C" __global__ void transpose_padded(const float* x, float* y, int rows, int columns) {
    __shared__ float tile[TILE][TILE + 1];
    through_tile(tile, x, y, rows, columns);
}
