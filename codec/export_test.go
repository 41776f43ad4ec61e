package codec

// BufferSize returns what the reader's buffer costs.
func BufferSize(rr *RequestReader) int { return len(rr.lines.buf) }
