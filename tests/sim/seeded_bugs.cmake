# Does the simulation notice anything? Each bug is one change to a copy of a file of src/kv, src/sched or src/engine, built
# into a program that runs a simulation over it: the engine's where the file is the engine's, else the scheduler's. The
# tests sim.bug.* pass when the bug is caught.

# seeded_bug(<name> <file under src> <text that is there once> <text in its place>)
function(seeded_bug name file old new)
  set(source ${CMAKE_SOURCE_DIR}/src/${file})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(READ ${source} text)
  string(FIND "${text}" "${old}" first)
  string(FIND "${text}" "${old}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "Seeded bug ${name}: src/${file} should have this once: ${old}")
  endif()
  string(REPLACE "${old}" "${new}" text "${text}")
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/sim/${name}.cc)
  set(before "")
  if(EXISTS ${copy})
    file(READ ${copy} before)
  endif()
  if(NOT "${before}" STREQUAL "${text}")
    file(WRITE ${copy} "${text}")
  endif()
  # The copy comes before the library, whose own version of the file is then not taken.
  add_executable(sim_bug_${name} ${CMAKE_CURRENT_SOURCE_DIR}/sim/seeded_bug.cc ${copy})
  target_compile_options(sim_bug_${name} PRIVATE -Wno-error -w)
  set(simulation Simulation)
  if(file MATCHES "^engine/")
    set(simulation EngineSimulation)
  endif()
  target_compile_definitions(sim_bug_${name} PRIVATE LLAMITA_SIMULATION=${simulation})
  target_link_libraries(sim_bug_${name} PRIVATE llamita_simulation)
  add_test(NAME sim.bug.${name} COMMAND sim_bug_${name})
  set_tests_properties(sim.bug.${name} PROPERTIES TIMEOUT 120)
endfunction()

seeded_bug(blocks_freed_under_a_step sched/scheduler.cc
           "if (under_way_.empty()) {\n    sequence.blocks.truncate(0);" "if (true) {\n    sequence.blocks.truncate(0);")
seeded_bug(results_of_before_a_preemption_count sched/scheduler.cc
           " || found->second->generation != part.generation" "")
seeded_bug(failed_step_counts sched/scheduler.cc
           "      sequence.planned = sequence.computed;\n      sequence.expected = 0;" "      sequence.expected = 0;")
seeded_bug(block_kept_a_token_early sched/scheduler.cc
           "pool_.block_tokens() <= sequence.computed) {" "pool_.block_tokens() <= sequence.computed + 1) {")
seeded_bug(every_chunk_samples sched/scheduler.cc
           "const bool sample = tokens == sequence.remaining();" "const bool sample = true;")
seeded_bug(waiting_overtaken sched/scheduler.cc
           "if (!match) return;" "if (!match) { ++next; continue; }")
seeded_bug(wrong_victim sched/scheduler.cc
           "Sequence& victim = *running_.back();" "Sequence& victim = *running_.front();")
seeded_bug(budget_forgotten sched/scheduler.cc
           "schedule(sequence, tokens, batch);\n    budget -= tokens;\n  }\n}" "schedule(sequence, tokens, batch);\n  }\n}")
seeded_bug(rollback_into_a_shared_block sched/scheduler.cc
           "if (!sequence.blocks.exclusive(computed)) computed -= computed % pool_.block_tokens();" "")
seeded_bug(hash_trusted kv/prefix_cache.cc
           "if (node.parent != parent) continue;" "return entry->second;")
seeded_bug(salt_ignored kv/prefix_cache.cc
           "const auto begin = start_of_.find(salt);" "const auto begin = start_of_.begin();")
seeded_bug(tail_with_two_owners kv/prefix_cache.cc
           "table.share(*match.tail);\n  remove(*match.tail);" "table.share(*match.tail);")
seeded_bug(kept_block_freed kv/block_pool.cc
           "if (kept(block)) {\n    ++idle_;\n  } else {" "if (false) {\n  } else {")
seeded_bug(last_block_leaks kv/block_table.cc
           "const auto keep = static_cast<size_t>(pool_->blocks_for(tokens));"
           "const auto keep = static_cast<size_t>(pool_->blocks_for(tokens)) + 1;")
seeded_bug(better_priority_waits sched/scheduler.cc
           "if (running_.back()->options.priority <= first.options.priority) return;" "return;")
seeded_bug(usage_of_the_first_choice_only engine/engine.cc
           "completion.completion_tokens += sampled.token >= 0 ? 1 : 0;"
           "completion.completion_tokens += choosing.choice == 0 ? 1 : 0;")
seeded_bug(usage_counts_what_is_dropped engine/engine.cc
           "    if (choosing_.count(chunk.sequence) != 0) advance("
           "    if (choosing_.count(chunk.sequence) == 0) ++counters_.generated_tokens; else advance(")
seeded_bug(deadlines_by_the_wall_clock engine/engine.cc
           "void Engine::end_overdue() {\n  const auto now = Clock::now();"
           "void Engine::end_overdue() {\n  const Clock::time_point now(std::chrono::system_clock::now().time_since_epoch());")
seeded_bug(deadline_of_the_running_only engine/engine.cc
           "const bool late = options.deadline && *options.deadline <= now;"
           "const bool late = running->begun && options.deadline && *options.deadline <= now;")
seeded_bug(who_is_late_begins_all_the_same engine/engine.cc
           "const bool unserved = !begun && options.begin_by && *options.begin_by <= now;" "const bool unserved = false;")
seeded_bug(who_ends_unstarted_waits_for_ever engine/engine.cc
           "  if (!ended->begun) count_unstarted(*ended, -1);\n" "")
seeded_bug(failed_step_fails_nobody engine/engine.cc
           "  for (const RequestId id : failed) end(id, FinishReason::error, why);" "")
