#include "autograd/parameter.h"

#include "autograd/op.h"

namespace moeut {

void Parameter::refresh_narrow() {
  if (narrow.defined()) cast_into(value, narrow, Mode::overwrite);
}

}  // namespace moeut
