using System;

namespace AISandbox.Internal;

/// <summary>
/// The last observations of an episode, stacked as stable-baselines3's VecFrameStack does: oldest first, along the last axis, or the
/// first one for images whose channels come first; zeros before the episode's first observation.
/// </summary>
internal sealed class FrameStack
{
    private readonly Layout[] _layouts;
    private readonly float[] _stacked;

    public FrameStack(Leaf[] leaves, int frames)
    {
        Frames = frames;
        _layouts = new Layout[leaves.Length];
        long offset = 0, frame = 0;
        for (var i = 0; i < leaves.Length; i++)
        {
            _layouts[i] = Layout.Of(leaves[i], frames, checked((int)offset), checked((int)frame));
            offset += leaves[i].Size;
            frame += leaves[i].Size / frames;
        }

        _stacked = new float[checked((int)offset)];
        FrameSize = checked((int)frame);
    }

    public int Frames { get; }

    /// <summary>The numbers of one observation before it is stacked.</summary>
    public int FrameSize { get; }

    public ReadOnlySpan<float> Stacked => _stacked;

    public void Clear() => Array.Clear(_stacked, 0, _stacked.Length);

    public void Push(ReadOnlySpan<float> frame)
    {
        foreach (var layout in _layouts)
        {
            layout.Push(frame, _stacked);
        }
    }

    /// <summary>How the frames of a leaf lie: in each of <c>Blocks</c> blocks, one part a frame.</summary>
    private readonly struct Layout
    {
        private readonly int _offset;
        private readonly int _frameOffset;
        private readonly int _blocks;
        private readonly int _block;
        private readonly int _part;

        private Layout(int offset, int frameOffset, int blocks, int block, int part)
        {
            _offset = offset;
            _frameOffset = frameOffset;
            _blocks = blocks;
            _block = block;
            _part = part;
        }

        public static Layout Of(Leaf leaf, int frames, int offset, int frameOffset)
        {
            var shape = leaf.Shape;
            var last = shape.Length > 0 && shape[^1] % frames == 0;
            var first = false;
            if (leaf.IsImage)
            {
                // stable-baselines3 takes the smallest extent of an image for its channels.
                first = shape[0] % frames == 0 && IsSmallest(shape[0] / frames, shape[1], shape[2]);
                last = last && !IsSmallest(shape[0], shape[1], shape[2] / frames);
            }

            if (first == last)
            {
                throw new ArgumentException(
                    $"Whether the {frames} stacked frames of {leaf.Input} lie along its first or its last axis cannot be seen from its shape: "
                    + "give all frames, oldest first.",
                    nameof(leaf));
            }

            var blocks = first ? 1 : checked((int)(leaf.Size / shape[^1]));
            var block = checked((int)(leaf.Size / blocks));
            return new Layout(offset, frameOffset, blocks, block, block / frames);
        }

        public void Push(ReadOnlySpan<float> frame, Span<float> stacked)
        {
            for (var i = 0; i < _blocks; i++)
            {
                var block = stacked.Slice(_offset + (i * _block), _block);
                block[_part..].CopyTo(block);
                frame.Slice(_frameOffset + (i * _part), _part).CopyTo(block[^_part..]);
            }
        }

        private static bool IsSmallest(long first, long second, long third) => first <= second && first <= third;
    }
}
