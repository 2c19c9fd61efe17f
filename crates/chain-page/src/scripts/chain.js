"use strict"; // In the first of the page's scripts, which are joined, so it applies to all.

// Decodes the attention matrices of the page and computes their chains, by the definitions of markov-core.

/** The power method stops when the L1 change of a step is below `change`, or after `steps` steps. */
const STEADY = { change: 1e-8, steps: 5000 };

/**
 * Decodes a row-stochastic matrix [n, n] from base64 of little-endian u16, each √(entry / largest entry of its row)
 * in 65,535ths: an entry p of a row with maximum m is off by at most √(p m) / 65,535. The maxima are not stored, since
 * rows are normalised here.
 */
function decodeMatrix(base64, n) {
  const bytes = atob(base64);
  const matrix = new Float32Array(n * n);
  for (let i = 0; i < n; i += 1) {
    let sum = 0;
    for (let k = i * n; k < (i + 1) * n; k += 1) {
      const root = bytes.charCodeAt(2 * k) | (bytes.charCodeAt(2 * k + 1) << 8);
      matrix[k] = root * root;
      sum += matrix[k];
    }
    for (let k = i * n; k < (i + 1) * n; k += 1) matrix[k] /= sum;
  }
  return matrix;
}

/** Returns the mean of matrices of the same size. */
function meanMatrix(matrices) {
  const mean = new Float32Array(matrices[0].length);
  for (const matrix of matrices) {
    for (let k = 0; k < mean.length; k += 1) mean[k] += matrix[k] / matrices.length;
  }
  return mean;
}

/** The chain of T = α A + (1-α)/n, walked forward, or backward through its reversal: teleport first, reversal second. */
class Chain {
  constructor(matrix, n, alpha, direction) {
    Object.assign(this, { matrix, n, alpha, direction });
    if (direction === "backward") {
      const columns = this.left(new Float64Array(n).fill(1));
      // A column of zeros, possible only at α = 1, has no backward row: a walk ends there.
      this.weights = columns.map((sum) => {
        const teleported = alpha * sum + (1 - alpha);
        return teleported > 0 ? 1 / teleported : 0;
      });
    }
  }

  /** Returns x A. */
  left(x) {
    const { matrix, n } = this;
    const out = new Float64Array(n);
    for (let i = 0, k = 0; i < n; i += 1) {
      const mass = x[i];
      if (mass === 0) k += n;
      else for (let j = 0; j < n; j += 1, k += 1) out[j] += mass * matrix[k];
    }
    return out;
  }

  /** Returns A y. */
  right(y) {
    const { matrix, n } = this;
    const out = new Float64Array(n);
    for (let i = 0, k = 0; i < n; i += 1) {
      let sum = 0;
      for (let j = 0; j < n; j += 1, k += 1) sum += matrix[k] * y[j];
      out[i] = sum;
    }
    return out;
  }

  /** Returns the state after one step from the distribution x. */
  step(x) {
    const y = this.direction === "forward" ? x : x.map((mass, j) => mass * this.weights[j]);
    const out = this.direction === "forward" ? this.left(y) : this.right(y);
    const jump = ((1 - this.alpha) * total(y)) / this.n;
    return out.map((mass) => this.alpha * mass + jump);
  }

  /** Returns the states after 1, 2, …, `steps` steps from the distribution `state`. */
  bounces(state, steps) {
    return Array.from({ length: steps }, () => (state = this.step(state)));
  }

  /** Returns the steady state by the power method from the uniform state: { state, steps, converged }. */
  steady() {
    let state = new Float64Array(this.n).fill(1 / this.n);
    for (let steps = 1; steps <= STEADY.steps; steps += 1) {
      const next = this.step(state);
      const sum = total(next);
      let change = 0;
      for (let i = 0; i < this.n; i += 1) {
        next[i] /= sum;
        change += Math.abs(next[i] - state[i]);
      }
      state = next;
      if (change < STEADY.change) return { state, steps, converged: true };
    }
    return { state, steps: STEADY.steps, converged: false };
  }
}

function total(x) {
  let sum = 0;
  for (const value of x) sum += value;
  return sum;
}
