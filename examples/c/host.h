/* The part of ONNX Runtime's C interface that a program needs to run a model, beside what ort.h of
 * autoprune's operators declares. Whoever has onnxruntime_c_api.h takes that instead. */
#ifndef HOST_H
#define HOST_H

#include "ort.h"

typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;

const OrtApiBase *OrtGetApiBase(void);

enum {
  GetErrorMessage_slot = 2,
  CreateEnv_slot = 3,
  CreateSession_slot = 7,
  Run_slot = 9,
  CreateSessionOptions_slot = 10,
  SetIntraOpNumThreads_slot = 24,
  RegisterCustomOpsLibrary_slot = 29,
  SessionGetInputCount_slot = 30,
  SessionGetOutputCount_slot = 31,
  SessionGetInputName_slot = 36,
  SessionGetOutputName_slot = 37,
  CreateTensorWithData_slot = 49,
  GetTensorElementType_slot = 60,
  CreateCpuMemoryInfo_slot = 69,
  AllocatorFree_slot = 76,
  GetAllocator_slot = 78,
  ReleaseEnv_slot = 92,
  ReleaseStatus_slot = 93,
  ReleaseMemoryInfo_slot = 94,
  ReleaseSession_slot = 95,
  ReleaseValue_slot = 96,
  ReleaseSessionOptions_slot = 100,
};

typedef const char *(*GetErrorMessage_type)(const OrtStatus *status);
typedef OrtStatus *(*CreateEnv_type)(int log_level, const char *name, OrtEnv **out);
typedef OrtStatus *(*CreateSession_type)(const OrtEnv *env, const char *path,
                                         const OrtSessionOptions *options, OrtSession **out);
typedef OrtStatus *(*Run_type)(OrtSession *session, const OrtRunOptions *options,
                               const char *const *input_names, const OrtValue *const *inputs,
                               size_t input_count, const char *const *output_names,
                               size_t output_count, OrtValue **outputs);
typedef OrtStatus *(*CreateSessionOptions_type)(OrtSessionOptions **out);
typedef OrtStatus *(*SetIntraOpNumThreads_type)(OrtSessionOptions *options, int threads);
typedef OrtStatus *(*RegisterCustomOpsLibrary_type)(OrtSessionOptions *options, const char *path,
                                                    void **handle);
typedef OrtStatus *(*SessionGetCount_type)(const OrtSession *session, size_t *out);
typedef SessionGetCount_type SessionGetInputCount_type, SessionGetOutputCount_type;
typedef OrtStatus *(*SessionGetName_type)(const OrtSession *session, size_t i,
                                          OrtAllocator *allocator, char **out);
typedef SessionGetName_type SessionGetInputName_type, SessionGetOutputName_type;
typedef OrtStatus *(*CreateTensorWithData_type)(const OrtMemoryInfo *info, void *data, size_t size,
                                                const int64_t *dims, size_t rank, int type,
                                                OrtValue **out);
typedef OrtStatus *(*GetTensorElementType_type)(const OrtTensorInfo *info, int *out);
typedef OrtStatus *(*CreateCpuMemoryInfo_type)(int allocator, int memory, OrtMemoryInfo **out);
typedef OrtStatus *(*AllocatorFree_type)(OrtAllocator *allocator, void *memory);
typedef OrtStatus *(*GetAllocator_type)(OrtAllocator **out);
typedef void (*ReleaseEnv_type)(OrtEnv *env);
typedef void (*ReleaseStatus_type)(OrtStatus *status);
typedef void (*ReleaseMemoryInfo_type)(OrtMemoryInfo *info);
typedef void (*ReleaseSession_type)(OrtSession *session);
typedef void (*ReleaseValue_type)(OrtValue *value);
typedef void (*ReleaseSessionOptions_type)(OrtSessionOptions *options);

#endif
