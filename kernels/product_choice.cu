#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "kernels/gemm.cuh"

namespace sidewinder::cuda {
namespace {

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "asking for the current device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "asking what the device has");
  return value;
}

template <typename T>
T rounded(float value) {
  if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(value);
  else
    return __float2bfloat16_rn(value);
}
template <typename T>
double widened(T value) {
  if constexpr (std::is_same_v<T, __half>)
    return static_cast<double>(__half2float(value));
  else
    return static_cast<double>(__bfloat162float(value));
}

template <typename T>
std::vector<T> random_values(std::size_t count, int spread, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-spread, 0);
  std::vector<T> values;
  values.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    values.push_back(rounded<T>(std::ldexp(normal(random), exponent(random))));
  return values;
}

template <typename Value>
DeviceMemory on_device(const std::vector<Value>& values) {
  DeviceMemory memory(values.size() * sizeof(Value));
  check(cudaMemcpy(memory.as<void>(), values.data(), memory.bytes(), cudaMemcpyHostToDevice),
        "uploading random values");
  return memory;
}
template <typename Value>
std::vector<Value> on_host(const DeviceMemory& memory) {
  std::vector<Value> values(memory.bytes() / sizeof(Value));
  check(cudaMemcpy(values.data(), memory.as<void>(), memory.bytes(), cudaMemcpyDeviceToHost),
        "fetching a product");
  return values;
}

// A product's every output: the plain one (rows, outputs), or the residual stream and its norm.
template <typename T>
struct Product {
  std::vector<float> sums;
  std::vector<T> normed;
};

template <typename T>
class Comparison {
 public:
  Comparison(int rows, int inputs, int outputs, int spread, std::uint32_t seed)
      : rows_(rows),
        inputs_(inputs),
        padded_((inputs + kStepK - 1) / kStepK * kStepK),
        outputs_(outputs),
        norms_(outputs == kRowOutputs),
        random_(seed),
        in_(random_values<T>(static_cast<std::size_t>(rows) * inputs, spread, random_)),
        weights_(static_cast<std::size_t>(outputs) * padded_),
        start_(static_cast<std::size_t>(rows) * outputs) {
    for (int out = 0; out < outputs; ++out) {
      const std::vector<T> row = random_values<T>(static_cast<std::size_t>(inputs), spread, random_);
      std::copy(row.begin(), row.end(), weights_.begin() + static_cast<std::ptrdiff_t>(out) * padded_);
    }
    if (norms_)
      for (float& value : start_) value = std::normal_distribution<float>()(random_);
  }

  ProductComparison run() const {
    const int multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
    const Product<T> first = product({multiprocessors, false, false, false});
    const Product<T> second = product({multiprocessors, true, true, false});
    ProductComparison result;
    result.values = first.sums.size() + first.normed.size();
    for (std::size_t i = 0; i < first.sums.size(); ++i)
      result.different += std::memcmp(&first.sums[i], &second.sums[i], sizeof(float)) != 0;
    for (std::size_t i = 0; i < first.normed.size(); ++i)
      result.different += std::memcmp(&first.normed[i], &second.normed[i], sizeof(T)) != 0;
    // The float64 product of some rows.
    for (int row = 0; row < rows_; row += std::max(1, rows_ / 7))
      for (int col = 0; col < outputs_; ++col) {
        const std::size_t at = static_cast<std::size_t>(row) * outputs_ + col;
        double sum = static_cast<double>(start_[at]), size = std::abs(sum) + 1e-30;
        for (int k = 0; k < inputs_; ++k) {
          const double term = widened(in_[static_cast<std::size_t>(row) * inputs_ + k]) *
                              widened(weights_[static_cast<std::size_t>(dealt(col)) * padded_ + k]);
          sum += term;
          size += std::abs(term);
        }
        result.largest_error = std::max(result.largest_error, std::abs(first.sums[at] - sum) / size);
        result.largest_other = std::max(result.largest_other, std::abs(second.sums[at] - sum) / size);
      }
    return result;
  }

 private:
  // The packed row that holds output `col`, see PackedMatrix.
  static int dealt(int col) {
    const int q = col % 16 / 4, t = col % 4 / 2, b = col % 2;
    return col / 16 * 16 + 8 * t + 2 * q + b;
  }

  Product<T> product(const ProductChoice& choice) const {
    const DeviceMemory in = on_device(in_), weights = on_device(weights_), sums = on_device(start_);
    const DeviceMemory count = on_device(std::vector<std::int32_t>{rows_});
    const Rows<T> rows{in.as<T>(), inputs_, count.as<std::int32_t>(), rows_};
    const Matrix<T> matrix{weights.as<T>(), inputs_, padded_, outputs_};
    if (!norms_) {
      multiply(rows, matrix, StoreFloat{sums.as<float>(), outputs_}, choice, cudaStreamPerThread);
      check(cudaDeviceSynchronize(), "comparing products");
      return {on_host<float>(sums), {}};
    }
    const DeviceMemory ones = on_device(std::vector<float>(kRowOutputs, 1.0f)),
                       normed(start_.size() * sizeof(T));
    multiply_rows<false>(rows, matrix,
                         RowEpilogue<T>{sums.as<float>(), nullptr, ones.as<float>(), 1e-5f, normed.as<T>()},
                         choice, cudaStreamPerThread);
    check(cudaDeviceSynchronize(), "comparing products");
    return {on_host<float>(sums), on_host<T>(normed)};
  }

  int rows_, inputs_, padded_, outputs_;
  bool norms_;
  std::mt19937 random_;
  std::vector<T> in_, weights_;
  std::vector<float> start_;  // what the sums begin with: random if they are normed
};

}  // namespace

ProductComparison compare_products(CudaPrecision precision, int rows, int inputs, int outputs, int spread,
                                   std::uint32_t seed) {
  if (rows < 1 || inputs < 8 || inputs % 8 != 0 || outputs < 16 || outputs % 16 != 0 ||
      (outputs != kRowOutputs && (inputs + kStepK - 1) / kStepK * kStepK != kResidentInputs<__half>))
    throw std::invalid_argument("compare_products: no kernel covers this shape both ways");
  switch (precision) {
    case CudaPrecision::Float16:
      return Comparison<__half>(rows, inputs, outputs, spread, seed).run();
    case CudaPrecision::BFloat16:
      return Comparison<__nv_bfloat16>(rows, inputs, outputs, spread, seed).run();
    default:
      throw std::invalid_argument("compare_products: float32 and float8 products have one way only");
  }
}

bool wgmma_runs() {
  return device_attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         device_attribute(cudaDevAttrComputeCapabilityMinor) == 0;
}

ProductChoice choose_products(const CudaOptions& options) {
  ProductChoice choice{device_attribute(cudaDevAttrMultiProcessorCount), false, false, options.clusters};
  if (options.precision == CudaPrecision::Float32) return choice;
  if (!wgmma_runs()) {
    if (options.precision == CudaPrecision::Float8)
      throw std::runtime_error(
          "cuda engine: float8 needs a GPU of compute capability 9.0; use float16, which runs on all that "
          "the engine runs on");
    if (options.products != CudaProducts::Wgmma) return choice;
    throw std::runtime_error(
        "cuda engine: wgmma products need a GPU of compute capability 9.0; leave the products "
        "on auto");
  }
  if (options.products == CudaProducts::Mma) return choice;
  choice.wgmma = true;
  choice.small = options.products == CudaProducts::Wgmma;
  if (choice.small) return choice;
  const CudaPrecision sixteen_bits =
      options.precision == CudaPrecision::Float8 ? CudaPrecision::Float16 : options.precision;
  for (const int outputs : {512, kRowOutputs})
    for (const int spread : {0, 12})
      if (compare_products(sixteen_bits, 192, 256, outputs, spread, 1).different != 0) choice.wgmma = false;
  return choice;
}

}  // namespace sidewinder::cuda
