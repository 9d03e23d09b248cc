# Standard, warnings, the baseline instruction set and sanitizers.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -g1")  # asserts stay on: a broken invariant must stop a run, and none sits in an inner loop
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")  # of the sanitizers' builds: lines for their reports, asserts on
# For what is compiled often and run once, tests and command lines: a third less time to compile (measured on three files, g++ 12).
set(MOEUT_QUICK_TO_COMPILE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:$<CONFIG:Debug>>>:-O1>)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wall>
                    $<$<COMPILE_LANGUAGE:CXX>:-Wextra>
                    $<$<COMPILE_LANGUAGE:CXX>:-Wshadow>
                    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
                    $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers>  # designated initialisers leave the rest at its default
                    $<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # From g++ 13 on (g++ 12 with 256), some multiply-adds of a sum are fused and some are not, by how many sums are computed beside it,
  # and a row's bits depend on its neighbours (tests/kernels/row_product_test.cpp): fuse all.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:--param=avoid-fma-max-bits=0>)
endif()
add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>)  # source lines for compute-sanitizer and the profilers
# One binary runs on any x86-64-v2 machine; hot loops are cloned for AVX2 and AVX-512 (kernels/cpu/simd.h).
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-march=x86-64-v2>)
endif()

if(MOEUT_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MOEUT_SANITIZE}> $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>)
  add_link_options(-fsanitize=${MOEUT_SANITIZE})
  # Function clones are chosen by ifunc resolvers, which run before a sanitizer's runtime is up.
  add_compile_definitions(MOEUT_NO_FUNCTION_CLONES)
  # Checked iterators and subscripts of the standard library: they find what AddressSanitizer cannot see inside one buffer.
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()
