// Errors. A message names the operation, shows the values and says what to do; the type says who is at fault.
// No fmt here: .cu files include this header. core/check.h has require().
#pragma once

#include <stdexcept>
#include <string>

namespace moeut {

/// Base of everything this project throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes, strides or dtypes that do not fit an operation.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A device that is absent, or operands on different devices.
class BackendError : public Error {
 public:
  using Error::Error;
};

/// An allocation that the system refused.
class OutOfMemory : public BackendError {
 public:
  using BackendError::BackendError;
};

/// Something on disk is missing, damaged or does not fit; exit status 1.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A value given by the user is wrong; decided before anything is written; exit status 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

}  // namespace moeut
