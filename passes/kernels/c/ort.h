/* The part of ONNX Runtime's C interface that operators need, declared here so that nothing but a C
 * compiler is needed to build a library of them.
 *
 * OrtApi is an append-only table of functions: a slot keeps its number for ever. API is the least
 * version of the table that has all slots below; `GetApi(API)` is NULL in older releases. */
#ifndef AUTOPRUNE_ORT_H
#define AUTOPRUNE_ORT_H

#include <stddef.h>
#include <stdint.h>

enum { API = 18 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorInfo OrtTensorInfo;
typedef void (*Function)(void);
typedef const Function *OrtApi;

typedef struct OrtApiBase {
  OrtApi (*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

/* Calls a slot: ORT(api, GetInput)(context, 0, &value). */
#define ORT(api, name) ((name##_type)(api)[name##_slot])

enum {
  CreateStatus_slot = 0,
  CreateCustomOpDomain_slot = 26,
  CustomOpDomain_Add_slot = 27,
  AddCustomOpDomain_slot = 28,
  GetTensorMutableData_slot = 51,
  GetDimensionsCount_slot = 61,
  GetDimensions_slot = 62,
  GetTensorTypeAndShape_slot = 65,
  GetIntAttribute_slot = 86,
  GetInputCount_slot = 88,
  GetOutputCount_slot = 89,
  GetInput_slot = 90,
  GetOutput_slot = 91,
  ReleaseTensorInfo_slot = 99,
  ParallelFor_slot = 274,
};

typedef OrtStatus *(*CreateStatus_type)(int code, const char *message);
typedef OrtStatus *(*CreateCustomOpDomain_type)(const char *name, OrtCustomOpDomain **domain);
typedef OrtStatus *(*CustomOpDomain_Add_type)(OrtCustomOpDomain *domain, const void *op);
typedef OrtStatus *(*AddCustomOpDomain_type)(OrtSessionOptions *options, OrtCustomOpDomain *domain);
typedef OrtStatus *(*GetTensorMutableData_type)(const OrtValue *value, void **data);
typedef OrtStatus *(*GetDimensionsCount_type)(const OrtTensorInfo *info, size_t *count);
typedef OrtStatus *(*GetDimensions_type)(const OrtTensorInfo *info, int64_t *dims, size_t count);
typedef OrtStatus *(*GetTensorTypeAndShape_type)(const OrtValue *value, OrtTensorInfo **info);
typedef OrtStatus *(*GetIntAttribute_type)(const OrtKernelInfo *info, const char *name, int64_t *out);
typedef OrtStatus *(*GetInputCount_type)(const OrtKernelContext *context, size_t *count);
typedef OrtStatus *(*GetOutputCount_type)(const OrtKernelContext *context, size_t *count);
typedef OrtStatus *(*GetInput_type)(const OrtKernelContext *context, size_t i, const OrtValue **out);
typedef OrtStatus *(*GetOutput_type)(OrtKernelContext *context, size_t i, const int64_t *dims,
                                     size_t count, OrtValue **out);
typedef void (*ReleaseTensorInfo_type)(OrtTensorInfo *info);
typedef OrtStatus *(*ParallelFor_type)(const OrtKernelContext *context, void (*job)(void *, size_t),
                                       size_t jobs, size_t batches, void *data);

enum { INVALID_ARGUMENT = 2, RUNTIME_EXCEPTION = 6 };
enum { FLOAT = 1, INT32 = 6 };
enum { REQUIRED = 0, OPTIONAL = 1, VARIADIC = 2 };

/* 208 bytes where pointers have 64 bits. The last four functions may be NULL. */
typedef struct OrtCustomOp OrtCustomOp;
struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, OrtApi, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *, OrtKernelContext *);
  void (*KernelDestroy)(void *);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, OrtApi, const OrtKernelInfo *, void **);
  OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
  OrtStatus *(*InferOutputShape)(const OrtCustomOp *, void *);
  int (*GetStartVersion)(const OrtCustomOp *);
  int (*GetEndVersion)(const OrtCustomOp *);
  size_t (*GetMayInplace)(int **, int **);
  void (*ReleaseMayInplace)(int *, int *);
  size_t (*GetAliasMap)(int **, int **);
  void (*ReleaseAliasMap)(int *, int *);
};

#endif
