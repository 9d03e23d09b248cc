#include "trainer/communicator.h"

#include <algorithm>
#include <cstring>

namespace moeut {

void Communicator::barrier() {
  all_gather_value<char>(0);
}

std::vector<std::string> Communicator::all_gather(const std::string& own) {
  const std::vector<uint64_t> lengths = all_gather_value<uint64_t>(own.size());
  const size_t room = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = own, all(room * lengths.size(), '\0');
  padded.resize(room);
  if (room > 0) all_gather(padded.data(), room, all.data());
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < lengths.size(); ++rank) texts.push_back(all.substr(rank * room, lengths[rank]));
  return texts;
}

std::string Communicator::broadcast(std::string text, int root) {
  uint64_t length = text.size();
  broadcast(&length, sizeof(length), root);
  text.resize(length);
  if (length > 0) broadcast(text.data(), length, root);
  return text;
}

}  // namespace moeut
