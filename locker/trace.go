package locker

import "time"

// A Trace is a set of functions that a Client calls on what happens, after
// httptrace.ClientTrace; any of them may be nil. They are called without locks
// held, possibly from several goroutines at once, and should return quickly:
// renewals and losses wait for them. None may call Client.Close, which waits for
// the goroutines that they are called from.
type Trace struct {
	// Acquired is called when a lease was acquired.
	Acquired func(AcquiredInfo)
	// Failed is called when an acquisition ended without a lease.
	Failed func(FailedInfo)
	// Retrying is called before each pause in which an acquisition rides out
	// an outage.
	Retrying func(RetryingInfo)
	// Renewed is called after each attempt to renew a lease.
	Renewed func(RenewedInfo)
	// Lost is called once for each lease that is lost.
	Lost func(LostInfo)
	// Released is called when a release was answered, or given up.
	Released func(ReleasedInfo)
	// Stored is called when a Put was answered, or failed.
	Stored func(StoredInfo)
	// Found is called when a Get, or a Join, brought a value: of a Join either
	// this or Acquired or Failed is called. A Get without a value calls nothing.
	Found func(FoundInfo)
}

// AcquiredInfo is for Trace.Acquired.
type AcquiredInfo struct {
	Key       string
	Fence     uint64        // 0 if none
	Waited    time.Duration // since the acquisition began
	Confirmed bool          // a renewal was needed, because the grant was old when it arrived
}

// FailedInfo is for Trace.Failed.
type FailedInfo struct {
	Key    string
	Waited time.Duration
	Err    error
}

// RetryingInfo is for Trace.Retrying.
type RetryingInfo struct {
	Key   string
	Err   error         // what the last attempt failed with
	Pause time.Duration // before the next
}

// RenewedInfo is for Trace.Renewed.
type RenewedInfo struct {
	Key     string
	Attempt int           // 1 if the last renewal was answered
	Took    time.Duration // from the stamp to the answer
	Err     error         // nil if renewed
}

// LostInfo is for Trace.Lost.
type LostInfo struct {
	Key string
	Err error // matches ErrLost and its cause
}

// ReleasedInfo is for Trace.Released.
type ReleasedInfo struct {
	Key  string
	Held time.Duration
	Err  error // nil if the backend confirmed it
}

// StoredInfo is for Trace.Stored.
type StoredInfo struct {
	Key   string
	Size  int           // of the data, in bytes
	Fence uint64        // that the value took; 0 if Err is not nil
	Took  time.Duration // from the call to the answer
	Err   error         // nil if stored; else what Put returned
}

// FoundInfo is for Trace.Found.
type FoundInfo struct {
	Key    string
	Size   int // of the data, in bytes
	Fence  uint64
	Age    time.Duration // as the backend knows it; less than Waited if it was put since the call began
	Waited time.Duration // since the call began
}
