// Shows what src/image makes of image files, for the script that compares with Pillow and transformers:
//
//   image_pixels decode < paths.txt            each path's answer: int32 H, W, then (H, W, 3) bytes
//   image_pixels process FOLDER < paths.txt    int32 H, W, then (3, H, W) f32, prepared as FOLDER's files say
//   image_pixels resize W H RESAMPLE < paths   as decode, resized by Pillow's number of a filter
//
// An image that is refused answers int32 -1, the length of the message, and the message.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include "image/decode.h"
#include "image/processor.h"
#include "image/resize.h"
#include "llamita/error.h"

namespace {

void put(const void* data, size_t size) { std::fwrite(data, 1, size, stdout); }

void put_size(int32_t height, int32_t width) {
  const int32_t head[] = {height, width};
  put(head, sizeof head);
}

void answer_each(const std::function<void(const std::string&)>& answer) {
  for (std::string path; std::getline(std::cin, path);) {
    try {
      answer(path);
    } catch (const llamita::Error& error) {
      const std::string message = error.what();
      put_size(-1, static_cast<int32_t>(message.size()));
      put(message.data(), message.size());
    }
  }
}

void put_image(const llamita::RgbImage& image) {
  put_size(image.height, image.width);
  put(image.pixels.data(), image.pixels.size());
}

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "decode" && argc == 2) {
    answer_each([](const std::string& path) { put_image(llamita::load_image(path)); });
  } else if (command == "process" && argc == 3) {
    const auto config = llamita::read_llava_processor_config(argv[2]);
    answer_each([&](const std::string& path) {
      const auto pixels = llamita::process_image(llamita::load_image(path), config.image);
      put_size(pixels.height, pixels.width);
      put(pixels.values.data(), pixels.values.size() * sizeof(float));
    });
  } else if (command == "resize" && argc == 5) {
    const auto resample = static_cast<llamita::Resample>(std::atoi(argv[4]));
    answer_each([&](const std::string& path) {
      put_image(llamita::resize(llamita::load_image(path), std::atoi(argv[2]), std::atoi(argv[3]), resample));
    });
  } else {
    std::fprintf(stderr, "usage: image_pixels decode | process FOLDER | resize W H RESAMPLE  < paths\n");
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const llamita::Error& error) {
    std::fprintf(stderr, "image_pixels: %s\n", error.what());
    return 1;
  }
}
