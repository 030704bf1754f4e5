/* A server in small: loads a SavedModel by TensorFlow's C API, as TensorFlow Serving's loader does, and runs one
 * signature on one recording after another.
 *
 * predict MODEL INPUT OUTPUT... -- FILE...
 *
 * INPUT and OUTPUT name tensors of the graph (operation:index), a FILE holds float32 samples. Prints for each file each
 * output on a line: a string, or floats with nine digits.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

#define MOST_OUTPUTS 8

static void stop_unless_ok(const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(1);
  }
}

static TF_Output find(TF_Graph *graph, const char *name) {
  char operation[256];
  const char *colon = strrchr(name, ':');
  snprintf(operation, sizeof operation, "%.*s", (int)(colon - name), name);
  TF_Output output = {TF_GraphOperationByName(graph, operation), atoi(colon + 1)};
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", operation);
    exit(1);
  }
  return output;
}

static TF_Tensor *read_waveform(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  size_t bytes = (size_t)ftell(file);
  rewind(file);
  int64_t shape[] = {1, (int64_t)(bytes / sizeof(float))};
  TF_Tensor *waveform = TF_AllocateTensor(TF_FLOAT, shape, 2, bytes);
  if (fread(TF_TensorData(waveform), 1, bytes, file) != bytes) exit(1);
  fclose(file);
  return waveform;
}

static void print(const TF_Tensor *tensor) {
  if (TF_TensorType(tensor) == TF_STRING) {
    const TF_TString *text = TF_TensorData(tensor);
    printf("%.*s\n", (int)TF_TString_GetSize(text), TF_TString_GetDataPointer(text));
    return;
  }
  const float *values = TF_TensorData(tensor);
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) printf("%.9g ", values[i]);
  printf("\n");
}

int main(int count, char **arguments) {
  int end = 3;
  while (end < count && strcmp(arguments[end], "--") != 0) end++;
  int outputs = end - 3;
  if (outputs < 1 || outputs > MOST_OUTPUTS || end + 1 >= count) {
    fprintf(stderr, "usage: predict MODEL INPUT OUTPUT... -- FILE...\n");
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, NULL, status);
  stop_unless_ok(status);

  TF_Output input = find(graph, arguments[2]);
  TF_Output wanted[MOST_OUTPUTS];
  for (int i = 0; i < outputs; i++) wanted[i] = find(graph, arguments[3 + i]);
  for (int file = end + 1; file < count; file++) {
    TF_Tensor *waveform = read_waveform(arguments[file]);
    TF_Tensor *found[MOST_OUTPUTS] = {NULL};
    TF_SessionRun(session, NULL, &input, &waveform, 1, wanted, found, outputs, NULL, 0, NULL, status);
    stop_unless_ok(status);
    for (int i = 0; i < outputs; i++) {
      print(found[i]);
      TF_DeleteTensor(found[i]);
    }
    TF_DeleteTensor(waveform);
  }
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
