# ImageNet-21K, all 21841 classes, at 224 pixels. It has no validation split: the authors train on every picture and do
# not validate, as --no-validate does. To validate, move some pictures of each class to val; both keep all folders.
# Reading the folders takes long: dataset.ann_file=meta/train.txt names a list of "<folder>/<picture> <class>" instead.
_base_ = './imagenet_224.py'

dataset_type = 'ImageNet21k'
data_root = 'data/imagenet21k'
data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root, split='', data_prefix='train'))
val_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root, split='', data_prefix='val'))
test_dataloader = val_dataloader
