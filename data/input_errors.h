// What can be wrong with a text input in such a way that reading may go on behind it (ReaderOptions::on_bad_record).
#pragma once

#include "core/error.h"

namespace moeut {

/// One record: those behind it can be read.
class BadRecord : public IoError {
 public:
  using IoError::IoError;
};

/// Compressed data that ends too early or is damaged: nothing behind that place can be read.
class DamagedInput : public IoError {
 public:
  using IoError::IoError;
};

/// A signal came while standard input was waited for.
class InputInterrupted : public IoError {
 public:
  using IoError::IoError;
};

}  // namespace moeut
