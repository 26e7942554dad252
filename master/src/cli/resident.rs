//! Gives back the memory of code that ran and is not needed while nothing happens: the start, a restart, a question. What an idle master needs is a page or two.

use std::ffi::{c_int, c_void};

use nix::libc::{self, MADV_DONTNEED, PF_W, PT_LOAD, dl_phdr_info};
use nix::unistd::{SysconfVar, sysconf};

/// Unmaps the pages of this program's code and constants. Those that are needed again come back from the page cache, at the cost of a fault each.
#[allow(unsafe_code)]
pub(super) fn give_back_what_is_not_needed() {
    let Some(mut page) = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).filter(|size| size.is_power_of_two()) else {
        return;
    };
    // SAFETY: the callback is of the type that is wanted, and `page` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(unmap_what_is_never_written), (&raw mut page).cast()) };
}

/// Called with the program itself first; libraries are shared with others, and cost nothing.
#[allow(unsafe_code)]
unsafe extern "C" fn unmap_what_is_never_written(info: *mut dl_phdr_info, _size: usize, page: *mut c_void) -> c_int {
    // SAFETY: the caller passes a valid description, whose headers stay in memory as long as the program does, and what we gave it.
    let (base, headers, page) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()), *page.cast::<u64>())
    };
    for segment in headers.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_W == 0) {
        let begin = base.wrapping_add(segment.p_vaddr) & !(page - 1);
        let end = base.wrapping_add(segment.p_vaddr).wrapping_add(segment.p_memsz).next_multiple_of(page);
        // SAFETY: the range is a mapping of the program's file that nobody can have written to, so each page comes back as it was.
        // An error means that nothing was given back.
        unsafe { libc::madvise(begin as *mut c_void, (end - begin) as usize, MADV_DONTNEED) };
    }
    // No further callbacks.
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of this program's code that are in memory.
    fn resident_code() -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let program = std::env::current_exe().unwrap().display().to_string();
        let mut lines = smaps.lines().skip_while(|line| !(line.contains(" r-xp ") && line.ends_with(&program)));
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn code_that_is_not_needed_any_more_leaves_memory_and_comes_back_when_it_is() {
        let before = resident_code();
        give_back_what_is_not_needed();
        let after = resident_code();
        assert!(after < before, "{before} KiB, then {after} KiB");
        assert_eq!(crate::cli::values::duration("1m30s").unwrap().as_secs(), 90);
    }
}
