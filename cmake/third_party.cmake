# Third-party code, linked statically, so that ldd shows only the system's libraries.
find_package(Threads REQUIRED)
link_libraries(Threads::Threads)

function(llamita_static_library name header archive)
  find_path(LLAMITA_${name}_INCLUDE ${header} REQUIRED)
  find_library(LLAMITA_${name}_ARCHIVE ${archive} REQUIRED)
  add_library(llamita_${name} INTERFACE)
  target_include_directories(llamita_${name} SYSTEM INTERFACE ${LLAMITA_${name}_INCLUDE})
  target_link_libraries(llamita_${name} INTERFACE ${LLAMITA_${name}_ARCHIVE})
endfunction()
llamita_static_library(pcre2 pcre2.h libpcre2-8.a)
llamita_static_library(utf8proc utf8proc.h libutf8proc.a)
target_compile_definitions(llamita_utf8proc INTERFACE UTF8PROC_STATIC)

# Boost.Asio and Beast, as headers only, for the server.
find_package(Boost 1.81 REQUIRED)
add_library(llamita_boost INTERFACE)
target_link_libraries(llamita_boost INTERFACE Boost::headers)
target_compile_definitions(llamita_boost INTERFACE BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE)

# Images. Debian ships all of them as archives; libpng unpacks with zlib, libwebpdemux decodes nothing itself.
llamita_static_library(zlib zlib.h libz.a)
llamita_static_library(png png.h libpng16.a)
target_link_libraries(llamita_png INTERFACE llamita_zlib)
llamita_static_library(jpeg jpeglib.h libjpeg.a)
llamita_static_library(webp webp/decode.h libwebp.a)
llamita_static_library(webpdemux webp/demux.h libwebpdemux.a)
target_link_libraries(llamita_webpdemux INTERFACE llamita_webp)
