"""Updates of algorithms of SB3 and sb3-contrib that compute what these compute, in less time. Must not know runs.

For the small networks that policies usually have, SB3 spends its time in Python and autograd. Here gradients are
formulas, a rollout is preprocessed once, and a minibatch is a slice. Covered are MlpPolicy and MultiInputPolicy without
images, on the CPU, with Tanh or ReLU and any optimizer; all else (images, custom classes, a GPU) runs SB3's own code.
So does a model whose first update differs from SB3's (see ``self_test``), and every model with FAST_UPDATE=off. Of
RecurrentPPO every policy is covered, with autograd. Random numbers, losses and logged values are SB3's, and a saved
model is a plain SB3 model.

Where this differs from SB3 2.9:

1. Gradients are formulas instead of autograd's (``dense_net``, ``distributions``, ``squashed_actors``,
   ``normalized_net``, ``continuous_nets``, and a module for each algorithm). The kernels are those autograd calls, in
   its order, so that the results usually agree to the last bit.
2. The observations of a rollout are preprocessed once for all epochs instead of once for each minibatch (``rollout``).
3. One permutation of the rows is applied to the whole rollout; minibatches are slices. The permutation is drawn as
   ``RolloutBuffer.get`` draws it.
4. Adam runs in PyTorch's fused kernel, RMSprop for all parameters at once (``optimizer_step``); the state stays in the
   optimizer.
5. Gradients are clipped as one flat tensor, and not touched where the norm is below ``max_grad_norm``.
6. A gradient that is NaN or infinite raises NonFiniteTraining before the weights change; SB3 has NaN weights then.
7. Losses are logged from tensors that are averaged once at the end of an update, not from one number a minibatch.
8. During a rollout the policy acts without autograd's bookkeeping; off-policy ones compute their action directly.
9. MaskablePPO and RecurrentPPO normalise the advantage of a minibatch of one step too, which gives NaN; here they leave
   it, as PPO, also with FAST_UPDATE=off (``single_steps``).
10. SB3's PPO approximates the entropy of a distribution without closed form; such distributions are not covered here.
11. SAC, TQC and TD3 pass one critic after the other forward and backward. In SAC and CrossQ the gradient of the
   actions is computed for the critic with the least value only, since it is 0 for the others; that of the critics'
   weights by the actor's loss, which SB3 discards, nowhere.
12. The gradients of wide layers with a narrow input are products in another order (``dense_net``).
13. CrossQ's variance of a batch is the mean square of the centered values (``normalized_net``). A bias whose unit is
   active in the whole batch has no gradient but rounding, which Adam divides by itself; it has no effect there.
14. RecurrentPPO passes whole sequences through its LSTMs in one call, not one for each step (``recurrent_ppo``);
   of this list only 9 applies to it besides.
"""
