// Package datadir is what a lock server keeps on disk, so that a restart loses
// no lock and gives none twice, and no grant costs a write. It keeps a [State]:
// how far fences may have been given, the key of the tokens' MACs, the longest
// TTL that may be out, and records of the few leases that need one. Beside it are
// the values that the holders of locks put, each of which is a write: they are in
// a file of their own, so that nothing else waits for them.
//
// A [Dir] decides under a mutex of its own what may be relied on, and writes on
// a goroutine of its own. The decisions are a state machine without I/O or clock,
// and the files stand behind [FS], so that tests own both.
//
// # What may be relied on
//
// Nothing counts before it is on disk: a fence only up to [Dir.Ceiling], a TTL
// only when [Dir.Admit] says so, a lease above Options.MaxGrace only when its
// record is done. Whatever state of the last update a crash leaves, the old one
// or the new one, covers all that anybody was told. Fences are reserved in ranges
// and the next range is asked for when half of one is left, so that a grant
// hardly ever waits. The mark rises as it must and falls seldom: within a minute
// it causes six updates at most.
//
// # Files
//
// state-a and state-b each hold the whole state, identity says that both must
// be there:
//
//	"dlkstate" version:4 length:8 generation:8 identity:16 body:length sha256:32
//	body: boot:8 wall:8 key:32 ceiling:8 mark:8 clean:1 valuestx:8 records:4 record...
//	record: kind:1 fence:8 limit:8 weight:8 ttl:8 keylength:2 key
//
//	"dlkident" version:4 identity:16 created:8 sha256:32
//
// Numbers are big-endian, times and durations in nanoseconds. A file is exactly
// as long as its contents, the records are in strict order of kind, key and
// fence, and every state has exactly one encoding. The directory itself carries
// the lock (flock) against a second server: there is no lock file that somebody
// could remove. The kernel releases it when the process dies.
//
// # Why damage is never taken for a state
//
// An update writes the next generation to state-a, syncs it, then to state-b,
// syncs it, and only then counts. So:
//
//  1. What counts stands in both files from then on. While the next update
//     overwrites one of them, the other one is whole and on disk.
//  2. Thus a power cut tears one file at most, and the newest whole file is the
//     generation that counts, or the next one, on which nobody relied yet.
//  3. One damaged byte or a truncation at rest spoils one of two equal files. The
//     other one is what counts. Damage to a file that was torn anyway changes
//     nothing, and if the other file is damaged, none is whole: refused.
//  4. So one whole file is never too old, whichever the other's fate was. The
//     checksum covers every byte before it, the exact length is part of it, and
//     SHA-256 makes a mixture of old and new sectors as good as impossible.
//  5. Two whole files are of the same generation and equal, or state-a is one
//     ahead. All else means that an old copy was put back: refused.
//  6. Creation writes each file under another name, syncs and renames it, syncs
//     the directory, and only then makes identity in the same way. So a file that
//     has its name is whole, and once there is an identity a missing state file
//     was removed: refused. Without an identity, only whole files of the first
//     generation, before which nothing was given out, are left over from a
//     creation that was cut short; all else means that it was removed: refused.
//  7. Opening first makes both files equal again, beginning with the one that a
//     failed sync may have left in memory alone, syncs the directory for the same
//     reason, and then writes the state of the new start, which takes back that
//     the last stop was a clean one.
//
// What it cannot know: that the whole directory was replaced by an older copy
// (fences then still start above the wall clock), or one file of it while the
// other one was torn; that it was emptied; and that a disk says it synced what it
// did not.
//
// # Values
//
// values.db is a file of bbolt with one bucket of a head and values, each under
// its name and with its own checksum, the first half of a SHA-256:
//
//	"head": sum:16 version:4 identity:16 boot:8 tx:8 fresh:1 count:8 sums:16
//	"v"key: sum:16 fence:8 at:8 until:8 data
//
// The writer of values is a goroutine of its own, and puts all that came together
// in one transaction of two syncs: the first for the data, which go to pages that
// are free, the second for one of the two first pages, which makes them count. A
// crash leaves a transaction or nothing of it. No order is needed between values
// and leases, but for the start and for what the slots say of values.db:
//
//  1. The slots say valuestx, the number of a transaction that is on disk, and
//     never one that is not: it is told to them afterwards, with whatever else they
//     are written for, by itself within two minutes, and at the end by Stop
//     and Close. So values.db must be there unless that is 0, and its own tx must
//     be as high: a missing file or an older copy is refused.
//  2. A start makes values.db first, if valuestx is 0, under another name until
//     it is whole and on disk. Then it writes its boot, one above the slots', and
//     fresh, which the first change takes back. Then it writes the slots with that
//     boot and tx, and only then is the Dir open. A crash in between leaves boot
//     one ahead and fresh, or an empty values.db beside valuestx 0; the next
//     start, and any number that end there, writes the same boot again. So boot
//     is the slots', or one more and fresh: a lower one is an older copy, and
//     all else says that the slots are.
//  3. What follows, fences up to the ceiling and leases, is the slots' alone. The
//     server has the fence of a value reserved before it puts it, so that after
//     any crash no fence of a value is above Found.Fence.
//  4. Stop ends the writer of values before the slots are written for the last
//     time. If that fails or does not happen the values are there all the same.
//
// All of values.db is read and checked before bbolt has it, by reading that
// believes nothing: both first pages must be whole and one transaction apart;
// every page in use must lie at its place, be used once, and be laid out as bbolt
// would have; the list of free pages must be just the rest; every checksum must
// be right; the head's count and the sum over all values' sums, its identity, and
// its tx, which is bbolt's own number, must be those of what is there. For bbolt
// itself a damaged first page is no error: it takes the other one, and so forgets
// a transaction. That both are whole after every crash is because the 80 bytes
// that matter are in one sector, and disks write sectors as a whole; where one
// does not, a power cut may lead to a refusal, never to a lost value. Then,
// unless the last stop was clean and knew of the last transaction, all pages in
// use are written again as they are, for those that a failed sync left in memory
// alone.
//
// What it cannot know: that values.db was replaced by a copy that is no older
// than what the slots know of, which is one of the last two minutes before a
// crash, and none before Stop or Close.
//
// Values expire by the wall clock over a restart: those that are over are not
// found and are removed. While the server runs the writer looks once a minute,
// and removes nothing early because the clock is set.
//
// # Failures
//
// The first write or sync that fails is the last: after a failed sync the kernel
// may hold pages that it will never write, and a second sync would succeed. The
// Dir then keeps its error, counts nothing new, and the server goes on with what
// was reserved. Values and leases fail each for themselves: see [Dir.ValuesErr].
// Opening the directory again starts from what can be read.
//
// # Platforms
//
// There must be flock, on a local file system: Linux, macOS, the BSDs and
// illumos. Elsewhere Open fails with errors.ErrUnsupported, because a directory
// without that guard is worse than none, or the package does not build, where
// bbolt does not: on js and wasip1. On NFS a directory cannot be locked,
// and Open says so.
package datadir
