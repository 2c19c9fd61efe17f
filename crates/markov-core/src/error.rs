//! Errors of this crate. Each message is one short paragraph.

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix without rows or columns.
    #[error("the matrix is empty: a chain needs at least one state")]
    Empty,
    /// A matrix that is not square.
    #[error("the matrix is {rows} × {columns}: a chain needs as many columns as rows")]
    NotSquare {
        /// Number of rows found.
        rows: usize,
        /// Number of columns found.
        columns: usize,
    },
    /// NaN or an infinity.
    #[error("entry ({row}, {column}) is {value}: every transition probability must be finite")]
    NotFinite {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A negative probability, however small.
    #[error(
        "entry ({row}, {column}) is {value:e}: transition probabilities cannot be negative; were logits given \
         instead of softmax output?"
    )]
    Negative {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A row that is not a distribution.
    #[error(
        "row {row} sums to {sum}, further than {tolerance:e} from 1: give a row-stochastic matrix (softmax over \
         the last axis) or a wider tolerance"
    )]
    RowSum {
        /// Row number, from 0.
        row: usize,
        /// Its sum.
        sum: f64,
        /// The distance from 1 that would have been accepted.
        tolerance: f64,
    },
    /// No token attends to a token, so it has no backward row.
    #[error(
        "column {column} sums to zero, so the backward chain has no row {column}: no token attends to it; \
         teleport first (alpha below 1) to give it one"
    )]
    NoBackwardRow {
        /// Column number, from 0.
        column: usize,
    },
    /// A row of a restricted matrix has no mass left.
    #[error(
        "row {row} keeps no mass: it attends only to tokens that were left out, so a walk cannot go on from it; leave \
         token {row} out as well, or keep a token that it attends to"
    )]
    RowLost {
        /// Row number in the whole matrix, from 0.
        row: usize,
    },
    /// A walk from some state is never absorbed.
    #[error(
        "a walk from state {state} is never absorbed ({count} of {transient} states are like that), so the expected \
         number of its steps is infinite; let a state absorb that these states lead to"
    )]
    NotAbsorbed {
        /// The first such state, from 0.
        state: usize,
        /// Number of such states.
        count: usize,
        /// Number of states that are not absorbing.
        transient: usize,
    },
    /// A mask allows a token to attend to no token.
    #[error(
        "row {row} of the mask allows nothing: a token must attend to at least one token, if only to itself; leave \
         token {row} out if it is padding"
    )]
    NothingAllowed {
        /// Row number, from 0.
        row: usize,
    },
    /// NaN or an infinity in a query or a key.
    #[error(
        "the {what} of token {token} is {value} in dimension {dimension}: queries and keys must be finite"
    )]
    BadVector {
        /// "query" or "key".
        what: &'static str,
        /// The token.
        token: usize,
        /// Index in the vector.
        dimension: usize,
        /// The entry.
        value: f64,
    },
    /// Queries and keys so large that their products exceed the range of floats.
    #[error(
        "the logits can exceed the range of floats: a query of length {query:e} meets a scaled key of length {key:e}"
    )]
    LogitsOverflow {
        /// Largest norm of a query.
        query: f64,
        /// Largest norm of a key times the scale.
        key: f64,
    },
    /// NaN, plus infinity or a number near the largest float in an additive mask.
    #[error(
        "entry ({row}, {column}) of the additive mask is {value:e}: give numbers well within the range of floats, or \
         minus infinity where the token must not be attended to"
    )]
    BadBias {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A setting of the logits lies outside its range.
    #[error("{what} must be {wanted}, got {found}")]
    Setting {
        /// Name of the setting.
        what: &'static str,
        /// What it must be, in words.
        wanted: &'static str,
        /// Value given.
        found: f64,
    },
    /// `alpha` lies outside `[0, 1]`.
    #[error("alpha is {0}: it is the probability of following the chain and must lie between 0 and 1")]
    Alpha(f64),
    /// A start or teleport vector that is not a distribution over the states.
    #[error("{what} is not a distribution over {states} states: {reason}")]
    Distribution {
        /// Name of the vector.
        what: &'static str,
        /// Number of states of the chain.
        states: usize,
        /// The problem.
        reason: String,
    },
    /// A token number exceeds the last state.
    #[error("token {token} does not exist: the chain has {states} states, counted from 0")]
    NoSuchToken {
        /// The requested token.
        token: usize,
        /// Number of states of the chain.
        states: usize,
    },
    /// A token was left out of the chain.
    #[error("token {token} is left out of the chain, for instance as padding; name a token that is kept")]
    Dropped {
        /// The requested token, counted in the whole sequence.
        token: usize,
    },
    /// Two arrays whose shapes do not fit.
    #[error("{what} has shape {found:?}, expected {expected}")]
    Shape {
        /// Name of the argument.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that was expected, in words.
        expected: String,
    },
    /// The chain has several closed classes, so every mixture of their steady states is a steady state too.
    #[error(
        "the steady state is not unique: the chain falls into {classes} closed classes (power method residual \
         {residual:.3e}); teleport with alpha below 1, or rank each class by itself"
    )]
    NotUnique {
        /// Number of closed communicating classes.
        classes: usize,
        /// L1 change of the last step of the power method from the uniform state.
        residual: f64,
    },
    /// The closed class is periodic, so the chain does not converge.
    #[error(
        "the chain has no limiting steady state: it is periodic with period {period} (started on one state, the \
         power method keeps a residual of {residual:.3e}); teleport with alpha below 1"
    )]
    Periodic {
        /// Period of the closed class.
        period: usize,
        /// L1 change of the last step of the power method started on one state of the class.
        residual: f64,
    },
    /// An iteration did not converge within its maximum number of steps.
    #[error(
        "{what} did not converge: residual {residual:.3e} after {products} products with the chain, wanted \
         {wanted:.1e}; allow more, widen the tolerance, or mix faster with a smaller alpha"
    )]
    NotConverged {
        /// Name of the computation.
        what: &'static str,
        /// Residual reached.
        residual: f64,
        /// Requested residual.
        wanted: f64,
        /// Products spent.
        products: usize,
    },
    /// A number argument lies outside its range.
    #[error("{what} must lie between {low} and {high}, got {found}")]
    Count {
        /// Name of the argument.
        what: &'static str,
        /// Smallest allowed value.
        low: usize,
        /// Largest allowed value.
        high: usize,
        /// Value given.
        found: usize,
    },
    /// A dense eigensolver failed, which means that numbers exceed the range of floats.
    #[error("the dense eigensolver did not converge on a {states} × {states} matrix")]
    Eigensolver {
        /// Side of the matrix.
        states: usize,
    },
    /// One matrix of a batch is invalid.
    #[error("matrix {index} of the batch: {source}")]
    Matrix {
        /// Index in the batch, from 0.
        index: usize,
        /// The reason.
        source: Box<Error>,
    },
    /// A libtorch operation failed.
    #[cfg(feature = "torch")]
    #[error("{}", crate::torch_error::describe(.0))]
    Torch(#[from] tch::TchError),
}

impl Error {
    pub(crate) fn in_matrix(self, index: usize) -> Self {
        Error::Matrix { index, source: Box::new(self) }
    }
}
