// What the commands of `sidewinder` return to the shell.
#pragma once

namespace sidewinder {

enum ExitCode : int {
  kExitOk = 0,
  kExitInput = 1,          // at least one input failed; the others were finished
  kExitUsage = 2,          // the command line is wrong
  kExitModel = 3,          // the model folder can't be used
  kExitOutput = 4,         // an output can't be written
  kExitEngine = 5,         // the engine asked for is not there
  kExitUnreachable = 8,    // no daemon answers, or it is not one
  kExitRefused = 9,        // the daemon said no, or ended the stream
  kExitEngineFailed = 10,  // the engine failed at its work (its GPU was lost, say); what it heard was written
  kExitInterrupted = 130   // Ctrl-C; what was heard until then was transcribed
};

}  // namespace sidewinder
