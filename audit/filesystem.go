package audit

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// FileSystem is the audit directory as the log sees it. Names are slash-separated and relative to that directory.
//
// What is durable, and when, is all that the log builds on: a file's content and size after [File.Sync], a file's
// name (its creation, renaming or removal) after SyncDir of the folder that holds it. Everything else may be lost or
// half there after a power cut, in any order. Methods may be called from several goroutines.
//
// A nil FileSystem in [Options] means the real directory. Tests hand in others that fail, fill up, hang or forget.
type FileSystem interface {
	// MkdirAll creates the folder and its parents; an existing folder is no error.
	MkdirAll(name string) error
	// OpenFile opens a file with the flags of package os; a missing file answers fs.ErrNotExist. The one flag more,
	// unix.O_DIRECT, says that the file is going to be written by whole blocks and hardly read. It is a hint.
	OpenFile(name string, flag int) (File, error)
	// Rename moves a file within its folder, replacing what had the new name.
	Rename(oldName, newName string) error
	// Remove removes a file.
	Remove(name string) error
	// ReadDir returns the names in a folder in ascending order.
	ReadDir(name string) ([]string, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Lock takes the exclusive lock file of that name until the result is closed, or the process ends. It does not
	// wait: a lock that another process or another caller holds answers ErrLocked.
	Lock(name string) (io.Closer, error)
	// Locked reports whether somebody holds that lock, without ever holding it.
	Locked(name string) (bool, error)
	// Close gives the directory back; its files are closed on their own.
	Close() error
}

// File is one open file of a [FileSystem].
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes content and size durable; times need not be. An error leaves open which of the writes since the last
	// successful Sync are durable.
	Sync() error
	// Truncate cuts or extends the file.
	Truncate(size int64) error
	// Size is the file's length in bytes.
	Size() (int64, error)
}

// wholeBlocks is the hint that OpenFile takes.
const wholeBlocks = unix.O_DIRECT

// ErrLocked says that another process, a running gateway as a rule, writes this audit directory.
var ErrLocked = errors.New("the audit directory is in use by another process")
