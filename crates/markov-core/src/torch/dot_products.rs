//! The products of queries and keys, in float32 whatever their type.

use tch::{Device, Kind, TchError, Tensor};

use super::is_half;

/// Returns `queries · keysᵀ` in float32, `[..., n, m]`, from `[..., n, d]` and `[..., m, d]` with the same leading axes.
///
/// On CUDA, numbers of 16 bits go to the matrix units as they are and are summed in float32. The product of two such numbers is
/// exact in float32, so the result differs from that of float32 matrices only by the order of the sums.
///
/// # Errors
/// libtorch fails, for example because the shapes do not fit.
pub fn dot_products(queries: &Tensor, keys: &Tensor) -> Result<Tensor, TchError> {
    let keys = keys.f_transpose(-2, -1)?;
    if matches!(queries.device(), Device::Cuda(_)) && is_half(queries) && queries.kind() == keys.kind() {
        // Where the product with sums in float32 is missing (ROCm, older libtorch), float32 matrices give the same.
        if let Ok(found) = wide(queries, &keys) {
            return Ok(found);
        }
    }
    queries.f_to_kind(Kind::Float)?.f_matmul(&keys.f_to_kind(Kind::Float)?)
}

/// Returns `left` `[..., n, d]` times `right` `[..., d, m]`, both of 16 bits, in float32.
fn wide(left: &Tensor, right: &Tensor) -> Result<Tensor, TchError> {
    let batch = |x: &Tensor| x.f_flatten(0, -3);
    let found = batch(left)?.f_bmm_dtype(&batch(right)?, Kind::Float)?;
    let mut shape = left.size();
    shape.pop();
    shape.extend(right.size().last());
    found.f_reshape(shape)
}
