// A JACK client that stands for a microphone: what somebody connects to its port hears the file from its
// beginning, then silence. usage: jack_player NAME FILE     (FILE: raw float32, mono, at the server's rate)
// Prints "ready" once there is a port, and "played" once the file has been heard; ends when standard input
// does, or the server.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <jack/jack.h>
#include <unistd.h>

namespace {

struct Player {
  jack_port_t* port = nullptr;
  std::vector<float> samples;
  std::size_t at = 0;  // the process thread's
  std::atomic<bool> played{false};
};

int process(jack_nframes_t frames, void* argument) {
  Player& player = *static_cast<Player*>(argument);
  auto* out = static_cast<float*>(jack_port_get_buffer(player.port, frames));
  std::memset(out, 0, frames * sizeof(float));
  if (jack_port_connected(player.port) == 0) return 0;
  const std::size_t count = std::min<std::size_t>(frames, player.samples.size() - player.at);
  std::memcpy(out, player.samples.data() + player.at, count * sizeof(float));
  player.at += count;
  if (player.at == player.samples.size()) player.played = true;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  Player player;
  std::ifstream in(argv[2], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  player.samples.resize(bytes.size() / sizeof(float));
  std::memcpy(player.samples.data(), bytes.data(), player.samples.size() * sizeof(float));

  jack_status_t status;
  jack_client_t* client = jack_client_open(argv[1], JackNoStartServer, &status);
  if (client == nullptr) return 1;
  player.port = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
  jack_set_process_callback(client, process, &player);
  jack_on_shutdown(
      client, [](void*) { std::_Exit(0); }, nullptr);
  if (player.port == nullptr || jack_activate(client) != 0) return 1;
  std::puts("ready");
  std::fflush(stdout);
  std::thread watch([&player] {
    while (!player.played) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::puts("played");
    std::fflush(stdout);
  });
  watch.detach();
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  jack_client_close(client);
  std::_Exit(0);  // not waiting for `watch`
}
