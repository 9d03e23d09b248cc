// Run-time dispatch of hot loops: the compiler emits a function once for each instruction set, the loader picks the
// best one. Write the loop as an always-inline template over the element type and instantiate it in a plain
// MOEUT_CLONES function.
#pragma once

// Feature levels, not names of CPUs: the resolver compares a name with the CPU's model, and "haswell" fits no other
// one. Under sanitizers there is one version: clones are chosen by ifunc resolvers, which run before a sanitizer's
// runtime is up.
#if defined(__x86_64__) && defined(__ELF__) && !defined(MOEUT_NO_FUNCTION_CLONES)
#define MOEUT_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MOEUT_CLONES
#endif

#define MOEUT_INLINE inline __attribute__((always_inline))
