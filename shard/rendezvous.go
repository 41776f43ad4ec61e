package shard

// Rendezvous is highest-random-weight hashing: every server gets a weight
// that depends on the key and on the server's position in the list, and the
// heaviest owns the key. Appending a server to a list of n moves one key in
// n+1, all of them to the new server; removing the last moves only the keys
// that it owned. (Positions, not addresses, are what a Func knows: to take a
// server out of the middle, put another into its place.) The cost is linear
// in the number of servers, a few nanoseconds each.
//
// The weight of the server at position i is mix(FNV-1a-64(key) +
// (i+1)×0x9e3779b97f4a7c15) in 64-bit arithmetic, where mix is the finalizer
// of SplitMix64; of equal weights the lower position wins. This will not
// change: a client in another language can rely on it.
func Rendezvous(key string, servers int) int {
	h := fnv1a(key)
	best, owner := uint64(0), 0
	for i := range servers {
		// FNV alone would not do: its high bits barely depend on the last
		// byte hashed, so that one server would win nearly everywhere.
		if w := mix(h + uint64(i+1)*golden); i == 0 || w > best {
			best, owner = w, i
		}
	}
	return owner
}

const (
	golden    = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio: SplitMix64's step
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// fnv1a is the 64-bit FNV-1a hash. It is written out because hash/fnv wants a
// []byte and a heap object for what is one multiplication per byte.
func fnv1a(s string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// mix is a bijection of the 64-bit numbers in which every bit of the result
// depends on every bit of x.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
