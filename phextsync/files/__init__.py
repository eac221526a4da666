"""Bound directories: files and a range of scrolls that are the same.

* `names`: which scroll is which file, as a scroll says it
* `paths`: at which path each file lies
* `ignoring`: which files are left alone
* `filesystem`: what is asked of a file system
* `markers`: which binding of which data folder a directory is
* `records`: what a file held when it was last read or written
* `unseen`: what scrolls held before changes that others may not have seen
* `rules`: how changes of the ignore file are merged, by whole lines
* `entries`: texts that are lists of entries, parted by a mark on a line of its own
* `presets`: what is known of the directories in which agents keep their memory
* `reading`: what lies at the paths of a directory
* `writes`: what is asked of files, and what became of it
* `drafts`: where files lie that are not yet at their paths, or not any more
* `moves`: how a file comes to lie at a path where nothing is, and leaves another
* `modes`: the permissions that the marks of a file ask for
* `scanning`: what lies in a directory
* `root`: whether a directory is the one that was bound, and what it ignores
* `late_writers`: who still writes into files that were replaced
* `directory`: the files of a directory, read and written without losing what others write
* `problems`: what cannot be kept in step, and when to try again
* `absences`: which files are gone, renamed or deleted, and which of these may be deleted elsewhere
* `renamed`: which of the files that are gone others are now
* `todo`: what has to be looked at again
* `conflict_log`: lines that two sides changed apart
* `alike`: lines that two sides made alike of one text, apart
* `twins`: lines that stand twice since two machines began a scroll apart
* `checkouts`: whether version control writes files just now
* `merging`: how the change of a file is done to its scroll
* `safekeeping`: what the disk has to have before what was done to files is done to scrolls
* `naming`: the map of names and the paths that follow from it
* `held`: which files lie there as another machine has them
* `restored`: whether the data folder was put back as it was earlier, and what is done then
* `intake`: what files say about their scrolls, and which file was renamed
* `settling`: whether what was about to happen to a file has, after a crash
* `output`: makes files what their scrolls are
* `scope`: which files and scrolls a round has to look at
* `missing`: which files are gone, or have another at their path
* `binding`: a directory and a range of scrolls that are the same
* `bindings`: which directories of this machine are bound
* `finding`: which scroll is meant by the path of a file
* `status`: how it stands with a binding, for programs and for people
* `desk`: what can be asked about bound directories
* `service`: keeps them in step while a node runs
"""
